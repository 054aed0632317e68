"""The release catalogue: every system of the platform as typed data.

One file a release in ``files/platform/releases/<name>.yaml``, its Helm values as a template in
``files/platform/values/<name>.yaml.j2``. Nothing here knows a cluster: which releases an inventory selects, where
they run and with which values is `piclusterops.platform`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yaml.constructor import ConstructorError

try:  # several times as fast
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

Profile = Literal["named", "clean", "minimal"]
Zone = Literal["dmz", "internal", "restricted", "system"]
#: `helm`: a chart of someone else; `own`: a chart of files/charts; `k3s`: K3s brings it; `host`: packages of the host.
Source = Literal["helm", "own", "k3s", "host"]
Verdict = Literal["permissive", "weak copyleft", "not permissive"]

#: SPDX identifiers by what "MIT or Apache compatible" means for them (licence texts; charts' and applications' own).
PERMISSIVE = frozenset({"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "PostgreSQL", "PSF-2.0", "Zlib"})
WEAK_COPYLEFT = frozenset({"MPL-2.0", "LGPL-2.1-or-later", "EPL-2.0"})


class UniqueKeyLoader(SafeLoader):
    """YAML in which no mapping has a key twice: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node.

        Raises:
            yaml.constructor.ConstructorError: a key is there twice.
        """
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Loader(UniqueKeyLoader):
    """YAML 1.2 as to truth: only `true` and `false` are; `on`, which is the name of a key, is a word."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|false)$"), list("tf"))


class CatalogueError(Exception):
    """The catalogue itself is wrong; the text names every file and fault."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Chart(_Model):
    """Where the chart of a release comes from."""

    name: str = Field(description="Name of the chart; of an own one, its folder in files/charts.")
    version: str
    repository: str | None = Field(None, description="`https://...` of a chart repository or `oci://...`; none of own.")
    app_version: str
    digest: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the chart's archive.")

    @property
    def archive(self) -> str:
        """Name of the chart's archive in a mirror."""
        return f"{self.name}-{self.version}.tgz"


class Licence(_Model):
    """Under what terms the application itself (not its chart) may be used."""

    spdx: str = Field(description="SPDX identifier of the server's licence.")
    source: str = Field(description="Where that was read.")

    @property
    def verdict(self) -> Verdict:
        """Whether the project's rule, MIT or Apache compatible, is met."""
        if self.spdx in PERMISSIVE:
            return "permissive"
        return "weak copyleft" if self.spdx in WEAK_COPYLEFT else "not permissive"


class Maintenance(_Model):
    """Whether someone still mends it."""

    maintained: bool
    note: str = Field(description="What that rests on, with a date.")


class Pods(_Model):
    """Pods of one kind of a release, and what each of them asks of a node."""

    name: str
    memory_mib: int = Field(ge=0, description="Memory request of a pod, in MiB.")
    memory_limit_mib: int = Field(ge=0, description="Memory limit of a pod, in MiB.")
    cpu_m: int = Field(ge=0, description="CPU request of a pod, in thousandths of a core.")
    on: Literal["node", "role", "every"] = Field(
        "node", description="`node`: on the release's node; `role`: one on each node of its role; `every`: a DaemonSet."
    )

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """What the container of such a pod gets, as Kubernetes has it; of pods with one container."""
        return {
            "requests": {"cpu": f"{self.cpu_m}m", "memory": f"{self.memory_mib}Mi"},
            "limits": {"memory": f"{self.memory_limit_mib}Mi"},
        }


class Volume(_Model):
    """A persistent volume of a release."""

    claim: str = Field(description="Name of the PersistentVolumeClaim, or its pattern with `*`.")
    size_gib: int = Field(ge=1, description="Size, in GiB.")


class SecretKey(_Model):
    """How the value of one key of a Secret comes to be."""

    kind: Literal["password", "hex", "base64", "static", "given", "template"] = Field(
        description="`password`: letters and digits; `hex`, `base64`: random bytes, written so; `static`: `value`, no "
        "secret at all; `given`: from the owner; `template`: jinja2 over other keys."
    )
    length: int = Field(32, ge=12, description="Characters of a password; bytes of `hex` and `base64`.")
    value: str | None = Field(None, description="The value, of `static`.")
    template: str | None = Field(
        None, description="Of `template`: jinja2 with `secret('<secret>', '<key>')` and `bcrypt(text)`."
    )
    rotates: bool = Field(True, description="False: never replaced, because what it encrypted would be lost.")
    why: str = Field("", description="Of `given`: what it is and where its owner gets it.")

    @model_validator(mode="after")
    def _of_its_kind(self) -> SecretKey:
        needed = {"static": self.value, "template": self.template, "given": self.why or None}
        if self.kind in needed and needed[self.kind] is None:
            raise ValueError(f"a key of kind {self.kind} lacks what makes it one")
        return self


class Tell(_Model):
    """How a running server is told of a new value, because it keeps a copy of its own."""

    workload: str = Field(
        pattern=r"^[^/]+/(deployment|statefulset)/[^/]+$", description="Where it runs: `namespace/kind/name`."
    )
    container: str = Field(description="The container that the command is run in.")
    command: tuple[str, ...] = Field(min_length=1, description="Program and arguments, for everybody to read.")
    stdin: tuple[str, ...] = Field(
        min_length=1,
        description="Keys of the Secret whose values it reads from its standard input, each with a newline.",
    )


class Secret(_Model):
    """A Kubernetes Secret that a release needs before it is installed; its name is unique in the catalogue."""

    name: str
    keys: dict[str, SecretKey]
    type: str = "Opaque"
    namespaces: tuple[str, ...] = Field((), description="Namespaces besides the release's own that need a copy.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels that its users look for.")
    restarts: tuple[str, ...] = Field(
        (), description="Workloads to restart when it changes: `namespace/kind/name`; the chart does not by itself."
    )
    tells: tuple[Tell, ...] = Field((), description="Servers that are told when it changes, before any restart.")
    taken_by: str = Field("", description="Who takes a new value over without being told or restarted, for people.")

    @model_validator(mode="after")
    def _tells_what_it_has(self) -> Secret:
        for tell in self.tells:
            if missing := [key for key in tell.stdin if key not in self.keys]:
                raise ValueError(f"{tell.workload} is told {', '.join(missing)}, which {self.name} does not have")
        return self

    @property
    def in_force_by(self) -> tuple[str, ...]:
        """What brings a new value into force, for people, in the order in which that happens."""
        taken = [f"taken over by {self.taken_by}"] if self.taken_by else []
        told = [f"{tell.workload} is told" for tell in self.tells]
        restarted = [f"{workload} is restarted" for workload in self.restarts]
        return (*taken, *dict.fromkeys(told), *restarted)


class Place(_Model):
    """On which node a release runs: the `index`-th (from 0, counted round) of those with `role`."""

    role: Literal["master", "worker", "data_node"] | None = None
    index: int = Field(0, ge=0)


class Backup(_Model):
    """What of a release a backup must hold."""

    volumes: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    note: str = ""


class Interface(_Model):
    """How people reach it."""

    address: str | None = Field(None, description="Name of its fixed address in the setting `service_addresses`.")
    host: str | None = Field(None, description="First label of its host name; the domain is the cluster's.")
    port: int = 443
    scheme: Literal["https", "http", "tcp"] = "https"


class Release(_Model):
    """One system of the platform."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$", description="Name of the Helm release.")
    title: str = Field(description="What it is, for people: `Trino, distributed SQL`.")
    source: Source = "helm"
    chart: Chart | None = None
    namespace: str | None = None
    zone: Zone = "internal"
    wave: int = Field(0, ge=0, le=13, description="Waves are installed one after the other.")
    profiles: tuple[Profile, ...] = Field((), description="Profiles that turn it on; in others it must be asked for.")
    provides: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="Contracts it fulfils, such as `object-store`, with what their users need to know (never a "
        "secret). Of two releases with the same contract only one may be on.",
    )
    depends_on: tuple[str, ...] = Field((), description="Releases or contracts that must be there before.")
    place: Place = Place()
    pods: tuple[Pods, ...] = ()
    volumes: tuple[Volume, ...] = ()
    secrets: tuple[Secret, ...] = ()
    licence: Licence
    maintenance: Maintenance
    arm64: str = Field(description="Evidence that its images exist for arm64.")
    page_16k: bool = Field(True, description="Whether it runs on the Raspberry Pi 5's own 16 KiB pages.")
    health: tuple[str, ...] = Field((), description="Workloads that must be ready: `Deployment/name`.")
    backup: Backup = Backup()
    interface: Interface | None = None
    timeout_s: int = Field(600, ge=30, description="How long it may take to become ready, in seconds.")
    note: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Release:
        if self.installable and (self.chart is None or self.namespace is None):
            raise ValueError("a release that Helm installs has a chart and a namespace")
        if self.source == "helm" and self.chart and not self.chart.repository:
            raise ValueError("its chart has no repository")
        return self

    @property
    def installable(self) -> bool:
        """Whether Helm installs it; K3s and the hosts' packages bring the others."""
        return self.source in ("helm", "own")

    def pod(self, name: str) -> Pods:
        """Its pods of that name.

        Raises:
            KeyError: it has none.
        """
        for pods in self.pods:
            if pods.name == name:
                return pods
        raise KeyError(name)


def platform_folder() -> Path:
    """The folder with the catalogue's data."""
    return Path(str(files("piclusterops.files").joinpath("platform")))


@cache
def catalogue() -> dict[str, Release]:
    """All releases by name.

    Raises:
        CatalogueError: a file is no valid entry.
    """
    return read(platform_folder() / "releases")


def read(folder: Path) -> dict[str, Release]:
    """The releases in a folder, by name; see `catalogue`."""
    releases, faults = {}, []
    for path in sorted(folder.glob("*.yaml")):
        try:
            release = _parse(path)
        except (ValidationError, ValueError, yaml.YAMLError) as error:
            faults.append(f"{path.name}: {error}")
            continue
        releases[release.name] = release
    faults += _faults(releases)
    if faults:
        raise CatalogueError("The catalogue is wrong:\n" + "\n".join(faults))
    return releases


def _parse(path: Path) -> Release:
    data: Any = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a safe loader
    release = Release.model_validate(data)
    if release.name != path.stem:
        raise ValueError(f"it calls itself {release.name}")
    return release


def _faults(releases: dict[str, Release]) -> list[str]:
    """What is wrong between releases: unknown or late dependencies, Secrets of one name.

    Circles depend on who fulfils a contract: `piclusterops.platform` finds them.
    """
    contracts = {contract for release in releases.values() for contract in release.provides}
    faults = [
        f"{release.name}: depends on {name}, which is no release and no contract"
        for release in releases.values()
        for name in release.depends_on
        if name not in releases and name not in contracts
    ]
    for release in releases.values():
        for name in release.depends_on:
            for needed in providers(releases, name):
                if needed.wave > release.wave:
                    faults.append(f"{release.name}: wave {release.wave} is before {needed.name}'s, {needed.wave}")
    secrets: dict[str, str] = {}
    for release in releases.values():
        for secret in release.secrets:
            other = secrets.setdefault(secret.name, release.name)
            if other != release.name and not set(release.provides) & set(releases[other].provides):
                faults.append(f"{release.name}: the Secret {secret.name} is also {other}'s")
    return faults


def providers(releases: dict[str, Release], name: str) -> list[Release]:
    """The release of that name, or those that fulfil the contract of that name."""
    if name in releases:
        return [releases[name]]
    return [release for release in releases.values() if name in release.provides]
