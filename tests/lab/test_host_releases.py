"""The NFS server and Docker on hosts. Containers have no NFS server in their kernel: all before that is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from runs import Run, data, out, pyinfra

from piclusterops.lab.fleet import Lab

pytestmark = pytest.mark.lab

MASTER, WORKER = "pi-master", "pi-worker-1"
BASE = """
from pyinfra import inventory

from piclusterops.deploys.base import base
from piclusterops.validation import cluster_from_inventory

base(cluster=cluster_from_inventory(inventory))
"""


@pytest.fixture(scope="module")
def lab(pair: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Two hosts with the baseline: the packages of every node, and the kernel parameters."""
    deploy = tmp_path_factory.mktemp("deploy") / "only_base.py"
    deploy.write_text(BASE)
    done = pyinfra("-y", lab=pair.name, deploy=str(deploy))
    assert done.returncode == 0, done.output
    return pair


def run(lab: Lab, name: str, enabled: bool = True, node: str = WORKER) -> Run:
    releases = {name: {"enabled": enabled, "node": node}}
    deploy = f"deploys/{name.replace('-', '_')}.py"
    return pyinfra("-y", "--json", *data(platform_releases=releases), lab=lab.name, deploy=deploy)


# Docker


@pytest.fixture(scope="module")
def docker(lab: Lab) -> Run:
    out(lab, WORKER, "iptables -P FORWARD ACCEPT")
    done = run(lab, "docker")
    assert done.returncode == 0, done.output
    return done


def test_docker_runs_and_the_forward_policy_stays(lab: Lab, docker: Run) -> None:
    assert docker.changes == {"Docker | Run Docker on its node": [WORKER]}
    info = json.loads(out(lab, WORKER, "docker info --format '{{json .}}'"))
    assert info["LiveRestoreEnabled"] is True and info["LoggingDriver"] == "local"
    assert out(lab, WORKER, "iptables -S FORWARD") == "-P FORWARD ACCEPT"
    rules = out(lab, WORKER, "iptables-save; nft list ruleset")
    assert "DOCKER" not in rules
    assert "docker0" not in out(lab, WORKER, "ip -o link")
    assert "dockerd" not in out(lab, WORKER, "ss -Hlntup")
    assert out(lab, WORKER, "getent group docker").endswith(":")
    assert "docker" not in out(lab, MASTER, "dpkg-query -W")


def test_docker_builds_an_image(lab: Lab, docker: Run) -> None:
    build = "cd $(mktemp -d) && printf 'FROM scratch\\nCOPY Dockerfile /\\n' >Dockerfile && docker build -q ."
    assert out(lab, WORKER, build).startswith("sha256:")


def test_a_second_run_of_docker_changes_nothing(lab: Lab, docker: Run) -> None:
    again = run(lab, "docker")
    assert again.changes == {} and set(again.executions.values()) == {1}


def test_docker_that_moves_is_off_where_it_was_and_off_everywhere_when_off(lab: Lab, docker: Run) -> None:
    state = "systemctl is-active docker docker.socket containerd; systemctl is-enabled docker docker.socket; :"
    assert run(lab, "docker", enabled=False).changes == {"Docker | Run Docker on its node": [WORKER]}
    assert out(lab, WORKER, state).split() == ["inactive"] * 3 + ["disabled"] * 2
    assert out(lab, WORKER, "ls /etc/docker/daemon.json") == "/etc/docker/daemon.json"
    assert run(lab, "docker", enabled=False).changes == {}


# NFS


def test_the_nfs_server_is_set_up_and_says_what_the_kernel_lacks(lab: Lab) -> None:
    done = run(lab, "nfs-server")
    exports = out(lab, WORKER, "cat /etc/exports.d/piclusterops.exports")
    assert all(lab.fleet.host(node).address in exports for node in (MASTER, WORKER))
    assert out(lab, WORKER, "stat -c '%a %U' /srv/nfs") == "711 root"
    if "nfsd" in Path("/proc/filesystems").read_text():
        assert done.returncode == 0, done.output
        return
    assert done.returncode == 1
    assert re.search(rf"{WORKER}: the NFS server does not run\. Next: ssh .*journalctl", done.output)
    # what exportfs understood of our file
    understood = out(lab, WORKER, "exportfs -ra 2>/dev/null; exportfs -s")
    for node in (MASTER, WORKER):
        options = re.search(rf"^/srv/nfs +{lab.fleet.host(node).address}\((.*)\)$", understood, re.MULTILINE)
        assert options and {"rw", "no_root_squash", "no_subtree_check", "sync"} <= set(options[1].split(",")), (
            understood
        )
    assert out(lab, WORKER, "nfsconf --get nfsd vers3; nfsconf --get nfsd vers4.1") == "n\ny"


def test_turned_off_the_share_alone_stays(lab: Lab) -> None:
    out(lab, WORKER, "echo kept >/srv/nfs/file")
    done = run(lab, "nfs-server", enabled=False)
    assert done.returncode == 0, done.output
    assert out(lab, WORKER, "find /etc/exports.d /etc/nfs.conf.d -name 'piclusterops*'; exportfs -s 2>/dev/null") == ""
    assert out(lab, WORKER, "cat /srv/nfs/file; systemctl is-enabled nfs-server || :") == "kept\ndisabled"
    assert run(lab, "nfs-server", enabled=False).changes == {}
