"""The reference of all settings, in Markdown, from the models: ``python -m piclusterops.settings_reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pyinfra.connectors.ssh import connector_data_meta

from piclusterops.faults import literal
from piclusterops.settings import AdminUser, ClusterSettings, NodeSettings, ReleaseChoice, Reservation, Vlan, VpnPeer
from piclusterops.validation import EXAMPLES, SSH_KEYS
from piclusterops.zones import FirewallSettings, Rate, Rule, Zone

_INTRODUCTION = """\
# Settings

<!-- Written by `make docs` from piclusterops/settings.py: change it there. -->

Settings are plain Python variables. There are three kinds: those [of the cluster](#settings-of-the-cluster), the same
for every node; those [of a node](#settings-of-a-node); and those [of the connection](#settings-of-the-connection),
which are pyinfra's. The whole inventory is checked before any host is changed, and every fault is listed at once, with
the fix. A name that is none of these is a fault; a value of your own begins with an underscore (`_rack = "A3"`).

## Where settings come from

| From | Wins over those below | Example |
| --- | --- | --- |
| the command line | 1 | `pyinfra -y --data journal_max_size_mb=200 inventories/prod.py deploys/site.py` |
| a host in the inventory file | 2 | `("pi-worker-1", {"ssh_hostname": "192.168.0.121", "ssh_port": 2222})` |
| the group named like the inventory file | 3 | `inventories/group_data/prod.py` |
| the host's other groups; the one that the inventory file has last wins | 4 | `inventories/group_data/worker.py` |
| all hosts of all inventories | 5 | `inventories/group_data/all.py` |
| the defaults below | 6 | |

Values can also be given in the inventory file with a group, as `worker = (hosts, {"node_labels": {"disk": "nvme"}})`;
a file in `group_data` of the same group wins over them. A value replaces the one below it as a whole: lists and
mappings are not merged. A `group_data` folder in the current directory is read too; the one beside the inventory wins.

A setting of the cluster must come out the same for every host, so it belongs into `group_data/all.py` or the file named
like the inventory. Networks are written `network/prefix`, as text.
"""

_PARTS: Mapping[type[BaseModel], str] = {
    AdminUser: "Parts of an admin user",
    Reservation: "Parts of a reservation",
    Vlan: "Parts of a VLAN",
    VpnPeer: "Parts of a VPN peer",
    ReleaseChoice: "Parts of a choice of a release",
    FirewallSettings: "Parts of the firewall",
    Zone: "Parts of a zone",
    Rule: "Parts of a rule",
    Rate: "Parts of a rate",
}


def reference() -> str:
    """The whole page."""
    blocks = [
        _INTRODUCTION,
        *_section("Settings of the cluster", ClusterSettings),
        *_section("Settings of a node", NodeSettings),
        *(block for model, title in _PARTS.items() for block in _parts(model, title)),
        _connection(),
    ]
    return "\n".join(blocks)


def _section(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n\n{_first_line(model)}\n"
    for key, field in model.model_fields.items():
        yield _entry(key, field)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _entry(key: str, field: FieldInfo) -> str:
    example = EXAMPLES.get(key, field.get_default(call_default_factory=True))
    lines = [
        f"### {key}",
        "",
        str(field.description),
        "",
        f"- Type: {type_words(field)}",
        f"- Default: {_default(field)}",
    ]
    return "\n".join([*lines, f"- Example: `{key} = {literal(_plain(example))}`", ""])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none, it must be set"
    return f"`{literal(_plain(field.get_default(call_default_factory=True)))}`"


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value


def _parts(model: type[BaseModel], title: str) -> Iterator[str]:
    yield f"## {title}\n\n{_first_line(model)}\n"
    yield "| Part | Type | Default | Meaning |\n| --- | --- | --- | --- |"
    for key, field in model.model_fields.items():
        yield f"| `{field.alias or key}` | {type_words(field)} | {_default(field)} | {field.description} |"
    yield ""


def _connection() -> str:
    rows = [
        f"| `{key}` | {kind.__name__} | {_ssh_default(key)} | {_ssh_meaning(key)} |" for key, kind in SSH_KEYS.items()
    ]
    return "\n".join(
        [
            "## Settings of the connection\n",
            "What pyinfra's SSH connector reads; they may differ from host to host. `inventories/group_data/all.py`",
            "sets the user, the key, how host keys are checked, and `_sudo = True`: every command runs as root.\n",
            "| Key | Type | Default | Meaning |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _ssh_default(key: str) -> str:
    default = connector_data_meta[key].default
    return "" if default is None else f"`{literal(default)}`"


def _ssh_meaning(key: str) -> str:
    return connector_data_meta[key].description.replace("``", "`")


def type_words(field: FieldInfo) -> str:
    """The type of a setting in words, with its bounds."""
    return _words(field.annotation) + _bounds(field.metadata)


def _words(kind: Any) -> str:
    plain = {
        bool: "`True` or `False`",
        int: "whole number",
        str: "text",
        IPv4Address: "IPv4 address, as text",
        IPv4Interface: "IPv4 address/prefix, as text",
        IPv4Network: "IPv4 network, as text",
        IPv6Address: "IPv6 address, as text",
        IPv6Network: "IPv6 network, as text",
        Any: "anything",
    }
    if kind in plain:
        return plain[kind]
    if kind in _PARTS:
        title = _PARTS[kind]
        return f"mapping ([{title.lower()}](#{title.lower().replace(' ', '-')}))"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(f"`{literal(choice)}`" for choice in arguments)
    if origin in (Union, UnionType):
        return ", or ".join(_words(part) if part is not NoneType else "`None`" for part in arguments)
    if origin is tuple:
        return f"list, each {_words(arguments[0])}"
    if origin is dict:
        return f"mapping of {_words(arguments[0])} to {_words(arguments[1])}"
    raise TypeError(f"no words for the type {kind}")


def _bounds(metadata: list[Any]) -> str:
    least = next((item.ge for item in metadata if isinstance(item, Ge)), None)
    most = next((item.le for item in metadata if isinstance(item, Le)), None)
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f", {least} or more" if least is not None else ""


if __name__ == "__main__":
    sys.stdout.write(reference())
