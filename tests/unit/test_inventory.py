"""Inventory files are found and loaded as pyinfra would, with errors that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyinfra.api.exceptions import InventoryError

from piclusterops.inventory import environment_path, load_inventory, repeated_hosts
from piclusterops.ssh import nodelay_transport
from piclusterops.validation import cluster_from_inventory

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "inventories" / "lab.py"
SETTINGS = '{"lan_cidr": "192.168.0.0/24"}'
VERSION = "v1.36.5+k3s1"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without any lab in it."""
    monkeypatch.setenv("PICLUSTEROPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PICLUSTEROPS_LAB", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def fleet(cache: Path) -> Path:
    """What a lab writes down about itself."""
    state = cache / "lab" / "lab"
    (state / "mirror" / VERSION).mkdir(parents=True)
    (state / "id_ed25519.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB lab\n"
    )
    roles = ["master", "worker", "data_node", "data_node"]
    names = ["pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3"]
    nodes = [
        {"name": name, "address": f"10.77.0.{number}", "port": 22, "user": "pi", "role": role}
        for number, (name, role) in enumerate(zip(names, roles, strict=True), start=10)
    ]
    client = {"name": "operator", "address": "10.77.0.5", "port": 22, "user": "pi", "role": "client"}
    path = state / "fleet.json"
    path.write_text(
        json.dumps(
            {
                "name": "lab",
                "subnet": "10.77.0.0/24",
                "ssh_key": str(state / "id_ed25519"),
                "known_hosts": str(state / "known_hosts"),
                "mirror": str(state / "mirror"),
                "k3s_version": VERSION,
                "standin": True,
                "nodes": nodes,
                "clients": [client],
            }
        )
    )
    return path


def message_of(path: Path) -> str:
    with pytest.raises(InventoryError) as caught:
        load_inventory(path)
    return str(caught.value)


# -- errors ------------------------------------------------------------------------------------------------


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert f"There is no inventory {tmp_path / 'prod.py'}" in message_of(tmp_path / "prod.py")


def test_syntax_error_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "prod.py"
    path.write_text('master = [\n    ("pi-1", {}),\n')
    message = message_of(path)
    assert f"The inventory can't be read: {path}: line 1: '[' was never closed" in message
    assert "Next: correct the file; no host was contacted." in message


def test_error_in_group_data_is_named_with_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "prod.py").write_text('master = ["pi-1"]\n')
    data = tmp_path / "group_data" / "all.py"
    data.parent.mkdir()
    data.write_text("one = 1\nlan_cidr = undefined_name\n")
    assert f"{data}: line 2: NameError: name 'undefined_name' is not defined" in message_of(tmp_path / "prod.py")


def test_unknown_connector_is_an_error_of_the_inventory(tmp_path: Path) -> None:
    path = tmp_path / "prod.py"
    path.write_text('master = ["@nosuch/pi-1"]\n')
    assert f"{path}: Invalid connector: nosuch" in message_of(path)


def test_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "prod.py"
    for name in ("pi-1", "pi-2"):
        path.write_text(f'master = ["{name}"]\n')
        assert [host.name for host in load_inventory(path)] == [name]


# -- environments ------------------------------------------------------------------------------------------


def test_environment_is_a_file_of_the_current_directory_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment_path("prod") == CHECKOUT / "inventories" / "prod.py"
    own = tmp_path / "inventories" / "prod.py"
    own.parent.mkdir()
    own.touch()
    assert environment_path("prod") == own


def test_environment_may_be_a_path(tmp_path: Path) -> None:
    assert environment_path(str(tmp_path / "mine.py")) == tmp_path / "mine.py"


def test_unknown_environment_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "prod.py").touch()
    with pytest.raises(InventoryError, match=r"no inventory porduction\.py in .*There are: prod\."):
        environment_path("porduction", tmp_path)


# -- what pyinfra merges -----------------------------------------------------------------------------------


def test_repeated_entries_are_found_in_plain_groups_and_groups_with_data(tmp_path: Path) -> None:
    path = tmp_path / "prod.py"
    path.write_text('master = (["pi-1", ("pi-1", {"x": 1})], {})\nworker = ["pi-2", "pi-3", "pi-2", "pi-2"]\n')
    assert repeated_hosts(load_inventory(path)) == ["pi-1", "pi-2", "pi-2"]


def test_host_in_two_groups_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "prod.py"
    path.write_text('master = ["pi-1"]\nrack_a = ["pi-1"]\n')
    assert repeated_hosts(load_inventory(path)) == []


def test_precedence_is_as_documented(tmp_path: Path) -> None:
    """docs/reference/settings.md: host, group named like the file, later group, all."""
    files = {
        "all": "v_all = v_first = v_last = v_file = v_host = v_inline = 'all'",
        "first": "v_first = v_last = v_file = v_host = 'first'",
        "last": "v_last = v_file = v_host = v_inline = 'last'",
        "prod": "v_file = v_host = 'prod'",
    }
    (tmp_path / "group_data").mkdir()
    for name, text in files.items():
        (tmp_path / "group_data" / f"{name}.py").write_text(text + "\n")
    path = tmp_path / "prod.py"
    path.write_text('first = ["pi-1"]\nlast = ([("pi-1", {"v_host": "host"})], {"v_inline": "inline"})\n')
    data = load_inventory(path).get_host("pi-1").data
    assert [data.v_all, data.v_first, data.v_last, data.v_file, data.v_host, data.v_inline] == [
        "all",
        "first",
        "last",
        "prod",
        "host",
        "last",
    ]


# -- the lab -----------------------------------------------------------------------------------------------


def test_lab_inventory_without_a_lab_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert message_of(LAB) == "There is no lab called lab.\nNext: picluster lab up"
    monkeypatch.setenv("PICLUSTEROPS_LAB", "second")
    assert message_of(LAB) == "There is no lab called second.\nNext: picluster lab up --name second"


def test_pyinfra_prints_that_without_a_traceback(cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", "-y", str(LAB), "exec", "--", "true"],
        cwd=CHECKOUT,
        env={**os.environ, "PICLUSTEROPS_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "There is no lab called lab.\nNext: picluster lab up" in done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_fleet_file_is_an_error_of_the_lab_only(fleet: Path) -> None:
    fleet.write_text("{")
    assert f"{fleet} is damaged" in message_of(LAB)
    load_inventory(CHECKOUT / "inventories" / "prod.py")


def test_lab_inventory_is_the_fleet(fleet: Path) -> None:
    inventory = load_inventory(LAB)
    cluster = cluster_from_inventory(inventory)
    assert [(node.name, node.role, node.address) for node in cluster.nodes] == [
        ("pi-master", "master", "10.77.0.10"),
        ("pi-worker-1", "worker", "10.77.0.11"),
        ("pi-worker-2", "data_node", "10.77.0.12"),
        ("pi-worker-3", "data_node", "10.77.0.13"),
    ]
    assert cluster.settings.k3s_mirror == str(fleet.parent / "mirror")
    assert cluster.settings.k3s_version == VERSION
    assert cluster.settings.lock_file == str(fleet.parent / "lab.lock")
    data = inventory.get_host("pi-worker-1").data
    assert data.ssh_key == str(fleet.parent / "id_ed25519")
    assert data.ssh_known_hosts_file == str(fleet.parent / "known_hosts")
    assert data.ssh_strict_host_key_checking == "yes"
    assert data.ssh_paramiko_connect_kwargs == {"transport_factory": nodelay_transport}


def test_lab_inventory_does_not_import_docker(fleet: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from piclusterops.inventory import load_inventory; "
        f"load_inventory(Path({str(LAB)!r})); print('docker' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False"], done.stderr


# -- the file that pyinfra's command line loaded -------------------------------------------------------------

SAYING = "from pyinfra import inventory\nfrom piclusterops.inventory import inventory_file\n"
SAYING += 'print(f"it is {inventory_file(inventory)}")\n'


def named_by_pyinfra(folder: Path, *arguments: str) -> str:
    """What a deploy file says that the inventory's file is, when pyinfra is run with these arguments in a folder."""
    deploy = folder.parent / "saying.py"
    deploy.write_text(SAYING)
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", "--dry", *arguments, str(deploy)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return next(line.removeprefix("it is ") for line in done.stdout.splitlines() if line.startswith("it is "))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An inventory of this machine in a folder, and group data of all kinds, in other folders, that look like one."""
    (tmp_path / "inventories" / "group_data").mkdir(parents=True)
    (tmp_path / "inventories" / "prod.py").write_text('master = [("@local", {})]\n')
    (tmp_path / "more").mkdir()
    for file in ("inventories/group_data/prod.py", "more/all.py", "more/master.py", "more/prod.py"):
        (tmp_path / file).write_text(f"said_by = {file!r}\n")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["inventories/prod.py"],
        ["--group-data", "more", "inventories/prod.py"],
        ["--group-data", "more", "-v", "--data", "x=1", "inventories/prod.py"],
        ["--group-data=more", "--limit", "@local", "inventories/prod.py"],
    ],
)
def test_pyinfras_inventory_is_known_whatever_else_it_reads(project: Path, arguments: list[str]) -> None:
    assert named_by_pyinfra(project, *arguments) == "inventories/prod.py"


def test_an_inventory_elsewhere_is_named_as_it_was_typed(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = str(project / "inventories" / "prod.py")
    assert named_by_pyinfra(elsewhere, "--group-data", str(project / "more"), path) == path
    assert named_by_pyinfra(project, "--chdir", "inventories", "prod.py") == "prod.py"


def test_an_inventory_with_a_group_of_its_own_name_and_a_config_beside_it_is_known(project: Path) -> None:
    (project / "config.py").write_text("SUDO = False\n")
    (project / "inventories" / "prod.py").write_text('prod = ["@local"]\nconfig = ["@local"]\nmaster = ["@local"]\n')
    assert named_by_pyinfra(project, "--group-data", "more", "inventories/prod.py") == "inventories/prod.py"


def test_hosts_that_were_typed_have_no_file(project: Path) -> None:
    assert named_by_pyinfra(project, "--group-data", "more", "@local") == "None"
