"""The cases of `tests/facts` and `tests/operations`: one YAML file each, in the format of pyinfra's own tests.

Besides pyinfra-testing's format they may build our objects: `!query {}`, `!snapshot {...}`, `!user {...}`,
`!settings {...}`, `!pod {...}`, `!seal {...}`.
All operations run as on the host pi-master, reached as the user pi.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyinfra_testing.operations
import yaml
from pyinfra_testing.facts import make_fact_tests
from pyinfra_testing.operations import make_operation_tests

from piclusterops.baseline import sudoers
from piclusterops.boot_targets import BootTarget
from piclusterops.facts.snapshot import PathState, Query, Snapshot, UnitState
from piclusterops.settings import AdminUser, ClusterSettings
from piclusterops.vault import Pod, Seal

TESTS = Path(__file__).resolve().parents[1]


def _mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
    assert isinstance(node, yaml.MappingNode)
    return {str(key): value for key, value in loader.construct_mapping(node, deep=True).items()}


def _query(loader: yaml.SafeLoader, node: yaml.Node) -> Query:
    return Query(**{key: tuple(value) for key, value in _mapping(loader, node).items()})


def _snapshot(loader: yaml.SafeLoader, node: yaml.Node) -> Snapshot:
    given = _mapping(loader, node)
    return Snapshot(
        paths={path: PathState(**state) for path, state in given.get("paths", {}).items()},
        packages=set(given.get("packages", [])),
        sysctls=given.get("sysctls", {}),
        units={unit: UnitState(**state) for unit, state in given.get("units", {}).items()},
        stamps=given.get("stamps", {}),
        probes=given.get("probes", {}),
    )


def _user(loader: yaml.SafeLoader, node: yaml.Node) -> AdminUser:
    return AdminUser(**_mapping(loader, node))


def _settings(loader: yaml.SafeLoader, node: yaml.Node) -> ClusterSettings:
    return ClusterSettings.model_validate(_mapping(loader, node))


def _target(loader: yaml.SafeLoader, node: yaml.Node) -> BootTarget:
    given = _mapping(loader, node)
    return BootTarget(**given | {"eeprom": tuple(given.get("eeprom", {}).items())})


yaml.SafeLoader.add_constructor("!query", _query)
yaml.SafeLoader.add_constructor("!snapshot", _snapshot)
yaml.SafeLoader.add_constructor("!user", _user)
yaml.SafeLoader.add_constructor("!target", _target)
yaml.SafeLoader.add_constructor("!settings", _settings)
yaml.SafeLoader.add_constructor("!pod", lambda loader, node: Pod(**_mapping(loader, node)))
yaml.SafeLoader.add_constructor("!seal", lambda loader, node: Seal(**_mapping(loader, node)))

# The harness replaces os.path.isdir and open(): have the template read before.
sudoers((), "pi")


class _HostData(dict[str, Any]):
    """Data of a host, by attribute as well, like pyinfra's."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


_create_host = pyinfra_testing.operations.create_host


def _pi_master(state: Any, **kwargs: Any) -> Any:
    host = _create_host(state, data=_HostData(ssh_user="pi"), **kwargs)
    host.name = "pi-master"
    return host


pyinfra_testing.operations.create_host = _pi_master

for _folder in sorted((TESTS / "facts").iterdir()):
    globals()[f"Fact {_folder.name}"] = make_fact_tests("piclusterops.facts", _folder.name, _folder)
for _folder in sorted((TESTS / "operations").iterdir()):
    globals()[f"Operation {_folder.name}"] = make_operation_tests("piclusterops.operations", _folder.name, _folder)
