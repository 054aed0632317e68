"""The settings of a cluster: typed, documented, and read from the data of a pyinfra inventory.

`ClusterSettings` holds what is the same for every node, `NodeSettings` what may differ. Both are filled
from the flat keys of the inventory and its group data; `piclusterops.validation` turns a whole inventory
into a `Cluster`, or into one list of all its faults.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from piclusterops.networks import AddressRange, parse_range
from piclusterops.zones import FirewallSettings

Role = Literal["master", "worker", "data_node"]
ROLES: tuple[Role, ...] = ("master", "worker", "data_node")

#: Oldest release with fixes that restore and apply depend on (K3s release notes of 2026-09-30).
DEFAULT_K3S_VERSION = "v1.36.5+k3s1"
DEFAULT_K3S_MIRROR = "https://github.com/k3s-io/k3s/releases/download"

#: What every node gets from its distribution's own repository.
DEFAULT_PACKAGES: tuple[str, ...] = (
    "ca-certificates",
    "conntrack",
    "curl",
    "ethtool",
    "iptables",
    "jq",
    "nfs-common",
    "nftables",
    "rsync",
    "sqlite3",
)

_K3S_VERSION = re.compile(r"v\d+\.\d+\.\d+(-rc\d+)?\+k3s\d+")
_WIREGUARD_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SSH_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+( .*)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_EEPROM_ORDER = re.compile(r"0x[0-9a-f]{1,8}")
_TAINT = re.compile(r"[^=:\s]+(=[^=:\s]*)?:(NoSchedule|PreferNoSchedule|NoExecute)")


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(what)
        return value

    return AfterValidator(check)


DnsLabel = Annotated[str, _matching(_DNS_LABEL, "must be a DNS label: a-z, 0-9 and -, at most 63 characters")]
K3sVersion = Annotated[str, _matching(_K3S_VERSION, "must look like v1.36.5+k3s1")]
UserName = Annotated[str, _matching(_USER_NAME, "must be a Linux user name: a-z, 0-9, _ and -")]
SshPublicKey = Annotated[
    str, _matching(_SSH_KEY, "must be one line of an OpenSSH public key, such as 'ssh-ed25519 AAAA... me'")
]
LabelKey = Annotated[str, _matching(_LABEL_KEY, "must be a Kubernetes label key: [prefix/]name")]
LabelValue = Annotated[str, _matching(_LABEL_VALUE, "must be a Kubernetes label value of at most 63 characters")]
WireguardKey = Annotated[
    str, _matching(_WIREGUARD_KEY, "must be a public key as wg pubkey prints it: 32 bytes in base64, 44 characters")
]
Taint = Annotated[str, _matching(_TAINT, "must look like key=value:NoSchedule")]
EepromOrder = Annotated[str, _matching(_EEPROM_ORDER, "must be hexadecimal, 0x and at most 8 of 0-9 and a-f: 0xf416")]
Port = Annotated[int, Field(ge=1, le=65535)]


def _switch(value: Any) -> Any:
    """`True` and `False` as the settings that they stand for."""
    return FirewallSettings(enabled=value) if isinstance(value, bool) else value


Firewall = Annotated[FirewallSettings, BeforeValidator(_switch)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdminUser(_Model):
    """A person who may log in to every node."""

    name: UserName = Field(description="Login name.")
    ssh_keys: tuple[SshPublicKey, ...] = Field(
        min_length=1,
        description="All the public keys of the user; any other is removed, but for the user pyinfra logs in as.",
    )
    sudo: Literal["nopasswd", "password", "none"] = Field(
        "password",
        description="`nopasswd`: sudo without a password; `password`: sudo asks for one, which the user needs to have "
        "(`sudo passwd NAME` on the node); `none`: no sudo.",
    )


class Reservation(_Model):
    """What the kubelet keeps back from pods."""

    cpu: str = Field("100m", pattern=r"^\d+m?$", description="CPU, in Kubernetes units.")
    memory: str = Field("256Mi", pattern=r"^\d+[KMG]i$", description="Memory, in Kubernetes units.")


class Vlan(_Model):
    """A VLAN that a node is in, tagged on the interface of its LAN."""

    id: int = Field(ge=1, le=4094, description="Number of the VLAN, as the switch has it.")
    address: IPv4Interface = Field(description="Address of the node in it, with the prefix length of its network.")


class VpnPeer(_Model):
    """A device that may come in by the VPN."""

    name: DnsLabel = Field(description="Name of the device, for people.")
    public_key: WireguardKey = Field(
        description="Its public key, as `wg pubkey` prints it; the private one is made on the device and stays there."
    )
    address: IPv4Address = Field(description="Its address in `vpn_cidr`.")
    keepalive_s: int = Field(
        25,
        ge=0,
        le=65535,
        description="How often the device says that it is there, in seconds, so that the NAT in front of it does not "
        "forget it; 0: never.",
    )


class ReleaseChoice(_Model):
    """What an inventory wants other than its profile, of one release."""

    enabled: bool | None = Field(None, description="Whether it is installed; `None`: as the profile says.")
    node: DnsLabel | None = Field(None, description="The node it runs on, in place of the catalogue's choice.")
    version: str | None = Field(None, description="Version of its chart, in place of the catalogue's.")
    values: dict[str, Any] = Field(default_factory=dict, description="Helm values over those of the catalogue.")
    timeout_s: int | None = Field(None, ge=30, description="How long it may take to become ready, in seconds.")
    memory_mib: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="What its pods ask for where `values` change it, by their names in the catalogue, in MiB; what the "
        "budget of a node is made of.",
    )


class ClusterSettings(_Model):
    """What is the same on every node."""

    cluster_name: DnsLabel = Field("piclusterops", description="Name of the cluster and of its kubectl context.")
    domain: str = Field("home.arpa", description="DNS domain of the nodes: `<node>.<domain>` (RFC 8375).")
    timezone: str = Field("Etc/UTC", description="Time zone of the nodes, a name of the IANA database.")
    admin_users: tuple[AdminUser, ...] = Field((), description="People who may log in to every node.")
    packages: tuple[str, ...] = Field(DEFAULT_PACKAGES, description="Debian packages every node has.")
    extra_packages: tuple[str, ...] = Field((), description="Debian packages on top of `packages`.")
    journal_max_size_mb: int = Field(500, ge=50, description="Most disk the journal takes, in MB.")
    journal_retention_days: int = Field(30, ge=1, description="How long the journal is kept, in days.")

    lan_cidr: IPv4Network = Field(description="The network the nodes are in.")
    services_cidr: IPv4Network | None = Field(None, description="Network (VLAN) of the published services.")
    vpn_cidr: IPv4Network | None = Field(None, description="Network of the VPN's peers.")
    vpn_port: Port = Field(
        51900, description="UDP port of the VPN; 51820 and 51821 are flannel's with `wireguard-native`."
    )
    vpn_address: IPv4Address | None = Field(
        None, description="Address in the VPN of the node that ends it; the first of `vpn_cidr` when it is `None`."
    )
    vpn_endpoint: str | None = Field(
        None,
        description="Name or address at which the VPN's clients find it from afar: that of your router, which forwards "
        "UDP `vpn_port` to the node. The node's own address when it is `None`.",
    )
    vpn_peers: tuple[VpnPeer, ...] = Field(
        (), description="Devices that may come in by the VPN, when the release `wireguard` is on."
    )
    metallb_pool: str | None = Field(
        None, description="Addresses for LoadBalancer services: `first-last` or a network."
    )
    pod_cidr: IPv4Network = Field(IPv4Network("10.42.0.0/16"), description="Network of the pods.")
    service_cidr: IPv4Network = Field(IPv4Network("10.43.0.0/16"), description="Network of the ClusterIPs.")
    node_cidr_mask: int = Field(24, ge=17, le=28, description="Prefix length of each node's share of `pod_cidr`.")
    cluster_domain: str = Field("cluster.local", description="DNS domain inside the cluster.")
    flannel_backend: Literal["vxlan", "host-gw", "wireguard-native"] = Field(
        "vxlan", description="How pods of different nodes reach each other."
    )

    k3s_version: K3sVersion = Field(DEFAULT_K3S_VERSION, description="K3s release of every node.")
    k3s_mirror: str = Field(
        DEFAULT_K3S_MIRROR,
        description="Where K3s comes from: a directory of this machine or a URL, laid out like the K3s releases.",
    )
    lock_file: str | None = Field(
        None,
        description="File with the digests of K3s, Helm and other people's charts, filled by "
        "`picluster lock --env ENV` or else by their first use; `<inventory>.lock` beside the inventory.",
    )
    airgap_images: bool = Field(False, description="Also put the release's image archive on every node.")
    datastore: Literal["sqlite", "etcd"] = Field(
        "sqlite",
        description="`sqlite` for one server on an SD card; `etcd` for three servers, or one on an SSD or NVMe.",
    )
    api_names: tuple[str, ...] = Field((), description="More names or addresses for the API's certificate.")
    k3s_disable: tuple[
        Literal["coredns", "servicelb", "traefik", "local-storage", "metrics-server", "runtimes"], ...
    ] = Field(("servicelb",), description="Packaged components of K3s to leave out.")
    secrets_encryption: bool = Field(
        True, description="Encrypt Secrets in the datastore. Must be decided before the first start."
    )
    kube_apiserver_args: tuple[str, ...] = Field((), description="More `name=value` arguments for kube-apiserver.")
    kube_controller_manager_args: tuple[str, ...] = Field(
        (), description="More `name=value` arguments for kube-controller-manager."
    )
    kubelet_args: tuple[str, ...] = Field((), description="More `name=value` arguments for the kubelet.")
    registries: dict[str, Any] = Field(
        default_factory=dict, description="Content of K3s' `registries.yaml` (mirrors and credentials)."
    )
    pod_max_pids: int = Field(4096, ge=128, description="Most processes of one pod (CIS 4.2.13).")
    system_reserved: Reservation = Field(Reservation(), description="Kept for the operating system.")
    kube_reserved: Reservation = Field(Reservation(), description="Kept for K3s itself.")
    shutdown_grace_s: int = Field(60, ge=0, description="Time pods get at a shutdown, in seconds.")
    shutdown_grace_critical_s: int = Field(
        20, ge=0, description="Part of `shutdown_grace_s` kept for critical pods, in seconds."
    )

    # What nodes boot with.
    page_size: Literal["4k", "16k", "keep"] = Field(
        "4k",
        description="Size of the kernel's memory pages on a Raspberry Pi 5. Its own 16 KiB break many images "
        "(`<jemalloc>: Unsupported system page size`); `keep` leaves the choice of the kernel alone.",
    )
    swap: Literal["off", "keep"] = Field("off", description="Whether nodes go without swap.")
    watchdog: bool = Field(
        True, description="Let the hardware watchdog of a Raspberry Pi restart a node that hangs for 15 seconds."
    )

    # Who logs in, and how.
    sshd_users: tuple[UserName, ...] = Field(
        (), description="More users that may log in, besides `admin_users` and the user that pyinfra logs in as."
    )
    controllers: tuple[IPv4Network, ...] | None = Field(
        None,
        description="Networks that pyinfra runs in; sshd does not lock these out after failed logins (OpenSSH 9.8 or "
        "newer). `lan_cidr` and `vpn_cidr` when it is `None`.",
    )
    sshd_tcp_forwarding: Literal["no", "local", "yes"] = Field(
        "local", description="Which ports people may forward over SSH; a jump host needs `local`."
    )
    sshd_banner: str | None = Field(None, description="Text that is shown before a login.")
    sshd_options: dict[str, str] = Field(
        default_factory=dict, description="More keywords of `sshd_config`, or other values for those we set."
    )
    armed_timeout_s: int = Field(
        90,
        ge=15,
        le=600,
        description="When a host undoes a change of sshd, firewall or network that was not confirmed, in seconds.",
    )
    firewall: Firewall = Field(
        True,
        validate_default=True,
        description="Who may reach what on the nodes. `True`: the defaults; `False`: no firewall of ours.",
    )

    # The platform on the cluster.
    platform_profile: Literal["named", "clean", "minimal", "none"] = Field(
        "named",
        description="Which releases of the catalogue are installed: `named` the systems of the reference platform, "
        "`clean` the same with permissively licensed ones in the place of others, `minimal` only what every cluster "
        "needs, `none` nothing.",
    )
    platform_releases: dict[DnsLabel, ReleaseChoice] = Field(
        default_factory=dict, description="What differs from the profile, by release: on or off, node, values."
    )
    platform_waivers: dict[DnsLabel, str] = Field(
        default_factory=dict,
        description="Releases that `clean` accepts though their licence is not permissive, with the reason.",
    )
    platform_prune: bool = Field(
        False,
        description="Whether releases that we installed and that are selected no more are removed; their volumes stay. "
        "Rather say it once, on the command line: `--data platform_prune=true`.",
    )
    service_addresses: dict[DnsLabel, IPv4Address] = Field(
        default_factory=dict,
        description="Fixed addresses of published services, by name (`nifi`, `trino`, `grafana`, `jupyterlab`), "
        "in `metallb_pool` or `services_cidr`.",
    )
    chart_mirror: str | None = Field(
        None,
        description="Where charts come from, a directory of this machine or a URL with `<chart>-<version>.tgz`; "
        "`None`: each chart's own repository.",
    )
    helm_version: str = Field("v4.1.4", pattern=r"^v[34]\.\d+\.\d+$", description="Helm release on the first server.")
    helm_mirror: str = Field(
        "https://get.helm.sh",
        description="Where Helm comes from: a directory of this machine or a URL, laid out like get.helm.sh.",
    )
    secrets_provider: Literal["age", "environment", "pass"] = Field(
        "age",
        description="Where the platform's secrets are kept: in an age-encrypted file beside the inventory, in "
        "environment variables, or in the password store `pass`.",
    )
    secrets_file: str | None = Field(
        None, description="The age-encrypted file; `<inventory>.secrets.age` beside the inventory when it is `None`."
    )
    secrets_key: str = Field(
        "~/.config/piclusterops/age.key", description="The age identity that reads it; keep it out of the repository."
    )

    time_sync_timeout_s: int = Field(120, ge=1, description="How long to wait for a synchronised clock, in seconds.")
    reboot_timeout_s: int = Field(600, ge=10, description="How long a node may take to come back, in seconds.")
    ready_timeout_s: int = Field(300, ge=10, description="How long a node may take to become Ready, in seconds.")
    min_memory_mb: int = Field(1800, ge=512, description="Least memory of a node, in MB.")
    min_disk_mb: int = Field(4096, ge=512, description="Least free disk for K3s before it is installed, in MB.")

    @property
    def free_pool(self) -> tuple[AddressRange, ...]:
        """What MetalLB may give to any service: `metallb_pool` without `service_addresses`, which are spoken for."""
        if self.metallb_pool is None:
            return ()
        return parse_range(self.metallb_pool).without(self.service_addresses.values())


class NodeSettings(_Model):
    """What may differ from node to node."""

    address: IPv4Address = Field(
        description="Address of the node in `lan_cidr`; needed when `ssh_hostname` is not that address."
    )
    node_labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, description="Labels of the Kubernetes node.")
    node_taints: tuple[Taint, ...] = Field((), description="Taints of the Kubernetes node: `key=value:Effect`.")
    interface: str | None = Field(None, description="Interface that carries pod traffic, when not the default one.")

    # How the node is addressed.
    static_address: bool = Field(
        False,
        description="Set `address` on the node itself, instead of having a DHCP server always give it this address, "
        "which is simpler.",
    )
    gateway: IPv4Address | None = Field(None, description="Router of the LAN; needed with `static_address`.")
    dns: tuple[IPv4Address, ...] = Field((), description="Name servers; needed with `static_address`.")
    vlans: dict[DnsLabel, Vlan] = Field(
        default_factory=dict,
        description="VLANs the node is in, by a name of your own; `services` is the one of `services_cidr`.",
    )

    # What the node boots with.
    pcie: Literal["keep", "on", "gen3"] = Field(
        "keep",
        description="PCIe connector of a Raspberry Pi 5: `on` for an SSD that is no HAT+, `gen3` for the faster mode "
        "that it is not certified for.",
    )
    eeprom_boot_order: EepromOrder | None = Field(
        None, description="`BOOT_ORDER` of the bootloader: `0xf416` tries NVMe, then SD card, then USB."
    )
    eeprom_pcie_probe: bool | None = Field(
        None, description="`PCIE_PROBE` of the bootloader: `True` finds an NVMe adapter that is no HAT+."
    )
    eeprom_power_off_on_halt: bool | None = Field(
        None, description="`POWER_OFF_ON_HALT` of the bootloader: `True` takes least power when shut down."
    )

    @field_validator("node_labels")
    @classmethod
    def _no_reserved_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        reserved = [key for key in labels if key.split("/")[0].endswith(("kubernetes.io", "k8s.io"))]
        if reserved:
            raise ValueError(f"the prefixes kubernetes.io and k8s.io are reserved: {', '.join(reserved)}")
        return labels


class Node(_Model):
    """One node of a validated cluster."""

    name: DnsLabel
    role: Role
    settings: NodeSettings

    @property
    def is_server(self) -> bool:
        """Whether the node runs the control plane."""
        return self.role == "master"

    @property
    def address(self) -> str:
        """Address in the LAN."""
        return str(self.settings.address)

    @property
    def registration_labels(self) -> dict[str, str]:
        """The labels the kubelet gives its node: it may not set roles itself."""
        return {"piclusterops.io/role": self.role, **self.settings.node_labels}

    @property
    def labels(self) -> dict[str, str]:
        """All labels we keep on the Kubernetes node; that of its role is what ``kubectl get nodes`` shows."""
        if self.is_server:
            return self.registration_labels
        return {f"node-role.kubernetes.io/{self.role.replace('_', '-')}": "true", **self.registration_labels}


class Cluster(_Model):
    """A validated cluster: settings and nodes, in the order of the inventory."""

    settings: ClusterSettings
    nodes: tuple[Node, ...]

    @property
    def servers(self) -> Sequence[Node]:
        """The nodes that run the control plane; the first one starts the cluster."""
        return [node for node in self.nodes if node.is_server]

    @property
    def agents(self) -> Sequence[Node]:
        """The other nodes."""
        return [node for node in self.nodes if not node.is_server]

    @property
    def first_server(self) -> Node:
        """The server that starts the cluster and that the others join."""
        return self.servers[0]

    def node(self, name: str) -> Node:
        """The node of that name.

        Raises:
            KeyError: there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)
