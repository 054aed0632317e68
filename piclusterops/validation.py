"""From the data of an inventory to a `Cluster`, or to the list of everything that is wrong with it.

Two passes: the values, key by key (`VALUE_RULES`, here), then what must hold between them
(`piclusterops.rules.RULES`). Nothing here connects to a host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pyinfra.connectors.ssh import ConnectorData

import piclusterops.host_rules
import piclusterops.platform_rules  # noqa: F401 - both enter their rules into RULES
from piclusterops.faults import Fault, SettingsError, closest, literal, shown
from piclusterops.networks import HostBitsError, parse_network
from piclusterops.rules import RULES, Draft, NodeDraft
from piclusterops.settings import (
    AdminUser,
    Cluster,
    ClusterSettings,
    Node,
    NodeSettings,
    ReleaseChoice,
    Reservation,
    Vlan,
    VpnPeer,
)
from piclusterops.zones import FirewallSettings, Rate, Rule, Zone

CLUSTER_KEYS = tuple(ClusterSettings.model_fields)
NODE_KEYS = tuple(NodeSettings.model_fields)
#: What pyinfra's SSH connector reads, with types, from pyinfra itself.
SSH_KEYS: Mapping[str, Any] = get_type_hints(ConnectorData)

_CIDR_KEYS = tuple(
    key
    for key, field in ClusterSettings.model_fields.items()
    if IPv4Network in (field.annotation, *get_args(field.annotation))
)
#: Stands in for the required network while the rest is checked (RFC 5737: for documentation).
_NO_NETWORK = IPv4Network("192.0.2.0/24")
_NO_ADDRESS = IPv4Address("0.0.0.0")

#: Names that other K3s installers use for what is called otherwise here.
_OTHER_NAMES = {
    "cluster_cidr": "pod_cidr",
    "cluster_dns": "service_cidr",
    "disable": "k3s_disable",
    "flannel_iface": "interface",
    "labels": "node_labels",
    "metallb_range": "metallb_pool",
    "node_ip": "address",
    "taints": "node_taints",
    "tls_san": "api_names",
    "users": "admin_users",
}
_HOST_KEY_CHECKING = ("accept-new", "yes", "ask", "no", "off")

_PLAIN_WORDS = {
    "bool_parsing": "it must be True or False",
    "bool_type": "it must be True or False",
    "dict_type": "it must be a mapping: {...}",
    "int_from_float": "it must be a whole number",
    "int_parsing": "it must be a whole number",
    "int_type": "it must be a whole number",
    "ip_v4_address": "it is no IPv4 address",
    "ip_v4_interface": "it is no IPv4 address with the prefix length of its network",
    "ip_v4_network": "it is no IPv4 network (network/prefix, as in 192.168.0.0/24)",
    "mapping_type": "it must be a mapping: {...}",
    "model_type": "it must be a mapping: {...}",
    "string_type": "it must be text in quotes",
    "tuple_type": "it must be a list: [...]",
}


@dataclass(frozen=True)
class HostData:
    """A host of an inventory as pyinfra sees it: its name, its groups, and all its data, merged."""

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]


def cluster_from_inventory(inventory: Any) -> Cluster:
    """The cluster that a pyinfra inventory describes.

    `inventory` is iterated for hosts with ``name``, ``groups`` and ``data.dict()``.

    Raises:
        SettingsError: it can't work; lists every fault.
    """
    return cluster_from_hosts(hosts_of(inventory))


def hosts_of(inventory: Any) -> list[HostData]:
    """The hosts of a pyinfra inventory, those that its file repeats as often as there."""
    # Imported here, so that the rest of this module does not need pyinfra's command line.
    from piclusterops.inventory import repeated_hosts

    hosts = [HostData(host.name, tuple(host.groups), host.data.dict()) for host in inventory]
    by_name = {host.name: host for host in hosts}
    repeated = [by_name[name] for name in repeated_hosts(inventory) if name in by_name]
    return [*hosts, *repeated]


#: The inventory that was sound last. A deploy file runs once for each host, and asks for the same each time.
_sound: dict[str, tuple[list[HostData], Cluster]] = {}


def cluster_from_hosts(hosts: Iterable[HostData]) -> Cluster:
    """The cluster that these hosts describe, nodes in the order given.

    Raises:
        SettingsError: it can't work; lists every fault.
    """
    listed = list(hosts)
    known = _sound.get("last")
    if known and known[0] == listed:
        return known[1]
    cluster = _validated(listed)
    _sound["last"] = (listed, cluster)
    return cluster


def _validated(listed: Sequence[HostData]) -> Cluster:
    faults = find_faults(listed)
    if faults:
        raise SettingsError(faults)
    draft = _draft(listed)
    nodes = tuple(Node(name=node.name, role=node.roles[0], settings=node.settings) for node in draft.nodes)
    return Cluster(settings=draft.settings, nodes=nodes)


def readable_cluster(hosts: Iterable[HostData]) -> Cluster:
    """What can be read of an inventory that has faults: defaults for unusable settings, nodes that are sound.

    For looking at hosts only; what changes them takes `cluster_from_hosts`.
    """
    draft = _draft(list(hosts))
    nodes: dict[str, Node] = {}
    for node in draft.nodes:
        if len(node.roles) != 1 or node.address is None:
            continue
        with suppress(ValidationError):
            nodes.setdefault(node.name, Node(name=node.name, role=node.roles[0], settings=node.settings))
    return Cluster(settings=draft.settings, nodes=tuple(nodes.values()))


def find_faults(hosts: Sequence[HostData]) -> list[Fault]:
    """Every fault, those of single values first; empty for an inventory that can work."""
    found = [replace(fault, rule=name) for name, rule in VALUE_RULES.items() for fault in rule(hosts)]
    draft = _draft(hosts)
    found += [replace(fault, rule=name) for name, rule in RULES.items() for fault in rule(draft)]
    return list(dict.fromkeys(found))


# -- the values, one by one --------------------------------------------------------------------------------

ValueRule = Callable[[Sequence[HostData]], Iterator[Fault]]


def unknown_key(hosts: Sequence[HostData]) -> Iterator[Fault]:
    """Every key is a setting, one of pyinfra's for SSH, or begins with an underscore."""
    known = [*CLUSTER_KEYS, *NODE_KEYS, *SSH_KEYS]
    for key in dict.fromkeys(key for host in hosts for key in host.data):
        if key in known or key.startswith("_"):
            continue
        meant = _OTHER_NAMES.get(key) or closest(
            key, [name for name in known if key.startswith("ssh_") or name[:4] != "ssh_"]
        )
        why = "no setting has this name" if not key.startswith("ssh_") else "pyinfra's SSH connector has no such option"
        fix = f"did you mean {meant}?" if meant else f"remove it; a value of your own begins with an underscore: _{key}"
        for value, names in _by_value(hosts, key):
            yield Fault(key, shown(key, value), why, fix, _where(names, hosts))


def ssh_option(hosts: Sequence[HostData]) -> Iterator[Fault]:
    """Values for pyinfra's SSH connector are of its types, and of those values that it knows."""
    for key, kind in SSH_KEYS.items():
        for value, names in _by_value(hosts, key):
            problem = _ssh_problem(key, kind, value)
            if problem:
                yield Fault(key, shown(key, value), *problem, _where(names, hosts))


def _ssh_problem(key: str, kind: Any, value: Any) -> tuple[str, str] | None:
    wanted = getattr(kind, "__name__", str(kind))
    if kind is float and isinstance(value, int):
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        fix = f"{key} = {int(value)}" if kind is int and str(value).isdecimal() else f"give a {wanted}"
        return f"pyinfra wants a value of type {wanted} here", fix
    if key == "ssh_port" and not 1 <= value <= 65535:
        return "a port is a number from 1 to 65535", "ssh_port = 22"
    if key == "ssh_strict_host_key_checking" and value not in _HOST_KEY_CHECKING:
        return (
            f"it is one of {', '.join(_HOST_KEY_CHECKING)}",
            f"{key} = {literal(closest(value, _HOST_KEY_CHECKING) or 'yes')}",
        )
    return None


def network_format(hosts: Sequence[HostData]) -> Iterator[Fault]:
    """Networks are written as network/prefix, without host bits."""
    for key in _CIDR_KEYS:
        for value, names in _by_value(hosts, key):
            if not isinstance(value, str):
                continue
            try:
                parse_network(value)
            except ValueError as error:
                meant = error.network if isinstance(error, HostBitsError) else _with_prefix(key, value)
                yield Fault(key, shown(key, value), str(error), f'did you mean "{meant}"?', _where(names, hosts))


def _with_prefix(key: str, text: str) -> IPv4Network:
    """A network like the one given, its prefix length guessed from its zeros; an example when it is no address."""
    try:
        octets = IPv4Address(text.partition("/")[0]).packed
    except ValueError:
        default = ClusterSettings.model_fields[key].default
        return default if isinstance(default, IPv4Network) else IPv4Network("192.168.0.0/24")
    prefix = 16 if octets[2:] == b"\0\0" and octets[0] != 192 else 24
    return IPv4Network((octets, prefix), strict=False)


def setting_differs(hosts: Sequence[HostData]) -> Iterator[Fault]:
    """Settings of the cluster are the same for every host."""
    for key in CLUSTER_KEYS:
        default = _plain(ClusterSettings.model_fields[key].get_default(call_default_factory=True))
        groups: list[tuple[Any, Any, list[str]]] = []
        for host in hosts:
            value = host.data.get(key, default)
            same = next((names for plain, _, names in groups if plain == _plain(value)), None)
            if same is None:
                groups.append((_plain(value), value, [host.name]))
            else:
                same.append(host.name)
        if len(groups) > 1:
            values = ", ".join(f"{shown(key, value)} for {_names(names)}" for _, value, names in groups)
            yield Fault(
                key,
                values,
                "it is a setting of the whole cluster, and the hosts have different ones",
                "set it once, in group_data/all.py or the group data named like the inventory, and remove the others",
            )


def missing_setting(hosts: Sequence[HostData]) -> Iterator[Fault]:
    """What has no default is set."""
    for key, field in ClusterSettings.model_fields.items():
        missing = [host.name for host in hosts if key not in host.data]
        if field.is_required() and hosts and len(missing) == len(hosts):
            example = _common_network(hosts) if key == "lan_cidr" else "..."
            yield Fault(key, "not set", f"it has no default: {_lower(field.description)}", f'{key} = "{example}"')
    for host in hosts:
        if "address" not in host.data and _address(host) is None:
            reached = host.data.get("ssh_hostname", host.name)
            yield Fault(
                "address",
                "not set",
                f"the node's address in the LAN is unknown: {reached!r} (where SSH goes) is a name, or no address",
                f'("{host.name}", {{"ssh_hostname": "192.168.0.121"}}), or set address beside ssh_hostname',
                host.name,
            )


def _common_network(hosts: Sequence[HostData]) -> str:
    first = next((address for host in hosts if (address := _address(host))), IPv4Address("192.168.0.0"))
    return str(IPv4Network((int(first), 24), strict=False))


def value_type(hosts: Sequence[HostData]) -> Iterator[Fault]:
    """Every value is of its setting's type and form."""
    found: dict[Fault, list[str]] = {}
    for host in hosts:
        errors = [*_errors(ClusterSettings, host.data), *_errors(NodeSettings, _node_data(host))]
        for error in errors:
            key = str(error["loc"][0])
            if error["type"] == "missing" and (len(error["loc"]) == 1 or _is_misspelt(error, errors)):
                continue
            if error["type"] == "too_short" and error["input"]:
                continue  # entries are no good, which is said of each
            if key in _CIDR_KEYS and isinstance(host.data[key], str):
                continue
            found.setdefault(_translated(error), []).append(host.name)
    for fault, names in found.items():
        of_cluster = fault.key.partition("[")[0].partition(".")[0] in CLUSTER_KEYS
        yield replace(fault, host=_where(names, hosts) if of_cluster else _names(names))


VALUE_RULES: dict[str, ValueRule] = {
    rule.__name__: rule
    for rule in (unknown_key, ssh_option, network_format, missing_setting, value_type, setting_differs)
}


# -- pydantic's errors in plain words ----------------------------------------------------------------------


def _errors(model: type[BaseModel], data: Mapping[str, Any]) -> list[ErrorDetails]:
    try:
        model.model_validate({key: value for key, value in data.items() if key in model.model_fields})
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _is_misspelt(missing: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether what is missing is there under a name that is nearly right, which is reported by itself."""
    *parent, name = missing["loc"]
    others = [error["loc"] for error in errors if error["type"] == "extra_forbidden"]
    return any(list(loc[:-1]) == parent and closest(str(loc[-1]), [str(name)]) for loc in others)


def _translated(error: ErrorDetails) -> Fault:
    key = str(error["loc"][0])
    path = key + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"][1:])
    path = path.removesuffix(".[key]")
    value = "not set" if error["type"] == "missing" else shown(path, error["input"])
    return Fault(path, value, *_explained(error, key))


def _explained(error: ErrorDetails, key: str) -> tuple[str, str]:
    """Why a value is refused, and what to write."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    last = str(error["loc"][-1])
    if kind == "literal_error":
        return _choice(key, last, given, str(context["expected"]))
    if kind == "extra_forbidden":
        parts = _parts(key, error["loc"])
        meant = closest(last, parts)
        return f"{key} has only the parts {', '.join(parts)}", f"did you mean {meant}?" if meant else "remove it"
    if kind == "missing":
        return f"every entry of {key} needs it", f'add "{last}": ...'
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = context["ge"] if kind == "greater_than_equal" else context["le"]
        words = "at least" if kind == "greater_than_equal" else "at most"
        return f"it must be {words} {bound}", f"{last} = {bound}"
    if kind == "too_short":
        return "without a key nobody could log in as this user" if last == "ssh_keys" else "it is empty", _example(key)
    if kind == "value_error" and "PRIVATE KEY" in str(given):
        why = "this is a private key, which belongs on no other machine and in no inventory"
        return why, "put the line of the .pub file here; if others may have seen the private key, make a new one"
    if kind == "value_error":
        return str(context["error"]), _example(key, given)
    if kind == "string_pattern_mismatch":
        return "it must be a Kubernetes quantity", 'write it like "256Mi" (memory) or "100m" (cpu)'
    why = _PLAIN_WORDS.get(kind, str(error["msg"]).replace("Input should be", "it must be"))
    return why, _typed(last, kind, given) or _example(key)


def _choice(key: str, last: str, given: Any, expected: str) -> tuple[str, str]:
    choices = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    meant = closest(str(given), choices)
    fix = f"did you mean {literal(meant)}?" if meant else f"use one of {', '.join(map(literal, choices))}"
    return f"it must be one of {', '.join(choices)}", fix


def _typed(last: str, kind: str, given: Any) -> str | None:
    """The given value in the type that is wanted, where that is plain."""
    if kind == "tuple_type" and isinstance(given, str):
        return f"{last} = [{literal(given)}]"
    if kind == "string_type" and isinstance(given, int | float):
        return f'{last} = "{given}"'
    return None


def _parts(key: str, location: Sequence[int | str]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "admin_users": AdminUser,
        "system_reserved": Reservation,
        "kube_reserved": Reservation,
        "vlans": Vlan,
        "vpn_peers": VpnPeer,
        "platform_releases": ReleaseChoice,
        "firewall": FirewallSettings,
    }
    if key == "firewall" and len(location) > 3:
        models = {"zones": Zone, "rules": Rule, "ssh_rate": Rate}
        key = str(location[1])
        if len(location) > 4:
            return list(Rate.model_fields)
    return [field.alias or name for name, field in models[key].model_fields.items()]


def _example(key: str, given: Any = None) -> str:
    """What a value of this setting looks like."""
    if key == "k3s_version" and isinstance(given, str):
        return _meant_version(given)
    model: type[BaseModel] = ClusterSettings if key in CLUSTER_KEYS else NodeSettings
    default = model.model_fields[key].get_default(call_default_factory=True)
    example = EXAMPLES[key] if key in EXAMPLES else _plain(default)
    return f"{key} = {literal(example)}, for example"


def _meant_version(given: str) -> str:
    numbers = given.strip().lower().removeprefix("v").replace("-k3s", "+k3s")
    candidate = f"v{numbers if '+' in numbers else numbers + '+k3s1'}"
    try:
        ClusterSettings.model_validate({"lan_cidr": _NO_NETWORK, "k3s_version": candidate})
    except ValidationError:
        candidate = ClusterSettings.model_fields["k3s_version"].default
    return f'did you mean "{candidate}"?'


#: What a value of a setting looks like, where the default does not show it.
EXAMPLES: dict[str, Any] = {
    "address": "192.168.0.121",
    "admin_users": [{"name": "operator", "ssh_keys": ["ssh-ed25519 AAAA... operator"], "sudo": "nopasswd"}],
    "api_names": ["k3s.example.org"],
    "dns": ["192.168.0.1"],
    "eeprom_boot_order": "0xf416",
    "eeprom_pcie_probe": True,
    "eeprom_power_off_on_halt": True,
    "controllers": ["192.168.0.0/24", "203.0.113.7/32"],
    "extra_packages": ["htop", "tmux"],
    "firewall": {"rules": {"agent": {"from": "management", "ports": 10050}}},
    "gateway": "192.168.0.1",
    "interface": "eth0",
    "k3s_disable": ["servicelb", "traefik"],
    "kube_apiserver_args": ["event-ttl=2h"],
    "kube_controller_manager_args": ["node-monitor-grace-period=20s"],
    "kubelet_args": ["max-pods=60"],
    "lan_cidr": "192.168.0.0/24",
    "lock_file": "inventories/prod.lock",
    "metallb_pool": "192.168.0.200-192.168.0.250",
    "node_labels": {"disk": "nvme"},
    "node_taints": ["dedicated=database:NoSchedule"],
    "registries": {"mirrors": {"docker.io": {"endpoint": ["https://mirror.example.org"]}}},
    "services_cidr": "10.0.1.0/24",
    "static_address": True,
    "sshd_banner": "Property of Example: authorised users only.",
    "sshd_options": {"ClientAliveInterval": "300"},
    "sshd_users": ["backup-pull"],
    "system_reserved": {"cpu": "200m", "memory": "512Mi"},
    "kube_reserved": {"cpu": "200m", "memory": "512Mi"},
    "timezone": "Europe/Vienna",
    "vlans": {"services": {"id": 10, "address": "10.0.1.121/24"}},
    "vpn_address": "10.8.0.1",
    "vpn_cidr": "10.8.0.0/24",
    "vpn_endpoint": "home.example.org",
    "vpn_peers": [
        {"name": "laptop", "public_key": "Hk7mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4c0mU0Tq2bWc=", "address": "10.8.0.2"},
    ],
}


# -- helpers -----------------------------------------------------------------------------------------------


def _lower(text: str | None) -> str:
    return (text or "")[:1].lower() + (text or "")[1:]


def _plain(value: Any) -> Any:
    """A value in the form an inventory gives it, so that equal settings compare equal."""
    if isinstance(value, BaseModel):
        return {key: _plain(item) for key, item in value.model_dump().items()}
    if isinstance(value, IPv4Network | IPv4Address):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return None if not isinstance(value, str | int | float | bool) and "Undefined" in repr(value) else value


def _by_value(hosts: Sequence[HostData], key: str) -> list[tuple[Any, list[str]]]:
    """The different values of a key, each with the hosts that have it."""
    groups: list[tuple[Any, list[str]]] = []
    for host in hosts:
        if key not in host.data:
            continue
        same = next((names for value, names in groups if _plain(value) == _plain(host.data[key])), None)
        if same is None:
            groups.append((host.data[key], [host.name]))
        else:
            same.append(host.name)
    return groups


def _names(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _where(names: Sequence[str], hosts: Sequence[HostData]) -> str | None:
    """The hosts that a fault is about; None for all of several."""
    return None if len(set(names)) == len({host.name for host in hosts}) else _names(names)


def _address(host: HostData) -> IPv4Address | None:
    """Where SSH goes, when that is an address."""
    try:
        return IPv4Address(str(host.data.get("ssh_hostname", host.name)))
    except ValueError:
        return None


def _node_data(host: HostData) -> dict[str, Any]:
    data = {key: host.data[key] for key in NODE_KEYS if key in host.data}
    return data if "address" in data else {"address": _address(host) or _NO_ADDRESS, **data}


def _draft(hosts: Sequence[HostData]) -> Draft:
    """The hosts with every value that can be read; the others are marked unusable."""
    merged = {key: host.data[key] for key in CLUSTER_KEYS for host in reversed(hosts) if key in host.data}
    settings, unusable = _settings({key: _meant(key, value) for key, value in merged.items()})
    return Draft(settings, unusable, tuple(_node(host) for host in hosts))


def _meant(key: str, value: Any) -> Any:
    """A network with host bits as the network that was meant: it is reported once, and still compared."""
    if key in _CIDR_KEYS and isinstance(value, str):
        try:
            parse_network(value)
        except HostBitsError as error:
            return error.network
        except ValueError:
            return object()
    return value


def _settings(data: Mapping[str, Any]) -> tuple[ClusterSettings, frozenset[str]]:
    bad = {str(error["loc"][0]) for error in _errors(ClusterSettings, data)}
    good = {key: value for key, value in data.items() if key not in bad}
    return ClusterSettings.model_validate({"lan_cidr": _NO_NETWORK, **good}), frozenset(bad)


def _node(host: HostData) -> NodeDraft:
    data = _node_data(host)
    bad = {str(error["loc"][0]) for error in _errors(NodeSettings, data)}
    good = {key: value for key, value in data.items() if key not in bad}
    settings = NodeSettings.model_validate({"address": _NO_ADDRESS, **good})
    if settings.address == _NO_ADDRESS:
        bad.add("address")
    return NodeDraft(host.name, host.groups, host.data, settings, frozenset(bad))
