"""Whether the platform fits on its nodes, and what would have to go when it does not."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k3s_samples import cluster
from platform_samples import PI5, platform, pods, release

from piclusterops.capacity import (
    K3S,
    NodeRoom,
    Use,
    budget_of,
    dependents,
    findings,
    leftover_findings,
    loads,
    parse_stored,
    refusals,
    room_of,
    rooms_of,
)
from piclusterops.catalogue import Release
from piclusterops.kube_nodes import KubeNode
from piclusterops.preflight import HostFacts
from piclusterops.quantities import mebibytes, millicores

HOST = HostFacts("aarch64", 8062, 50_000, "debian", "12", "Debian", cpus=4, volumes_mb=60_000, volumes_free_mb=50_000)
NODES = ("pi-master", "pi-worker-1", "pi-worker-2")
ROOMS = dict.fromkeys(NODES, PI5)


# -- what a node has -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mib", "millis"),
    [("8256240Ki", 8062, 8454389760000), ("8Gi", 8192, 8589934592000), ("1e9", 953, 10**12), ("3900m", 0, 3900)],
)
def test_quantities_are_read(text: str, mib: int, millis: int) -> None:
    assert (mebibytes(text), millicores(text)) == (mib, millis)


@pytest.mark.parametrize("text", ["", "8 Gi", "Mi", "-1", "8GiB", "0x10"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no Kubernetes quantity"):
        mebibytes(text)


def test_before_there_is_a_kubelet_memory_and_cpu_are_those_of_the_host_less_what_is_kept() -> None:
    room = room_of(cluster().settings, HOST, None)
    # 2 x 256Mi and 2 x 100m are reserved by default, and the kubelet evicts below 100Mi
    assert room == NodeRoom(8062 - 512 - 100, 4000 - 200, 41_000, is_estimate=True)


def test_what_the_kubelet_says_wins() -> None:
    kube = KubeNode("pi-master", True, "v1", memory_mib=6000, cpu_m=3500)
    assert room_of(cluster().settings, HOST, kube) == NodeRoom(6000, 3500, 41_000)
    assert room_of(cluster().settings, None, kube) == NodeRoom(6000, 3500)


def test_what_volumes_take_already_is_theirs() -> None:
    room = room_of(cluster().settings, HOST, None, stored=7_000)
    assert room and room.free_mib == 48_000


def test_a_node_that_nothing_is_known_of_is_missing() -> None:
    silent = KubeNode("pi-master", False, "v1")
    assert rooms_of(cluster(), {"pi-master": None, "pi-worker-1": HOST}, [silent]).keys() == {"pi-worker-1"}
    assert room_of(cluster().settings, replace(HOST, cpus=0), None) is None


@pytest.mark.parametrize(("lines", "mib"), [(["2048000"], 2000), ([], 0), ([""], 0), (["du: no"], 0)])
def test_the_size_of_the_volumes_may_be_unknown(lines: list[str], mib: int) -> None:
    assert parse_stored(lines) == mib


def test_the_probe_of_the_volumes_is_silent_where_there_are_none() -> None:
    from piclusterops.capacity import STORED_PROBE

    done = subprocess.run(["dash", "-c", STORED_PROBE], capture_output=True, text=True)
    assert done.returncode == 0 and parse_stored(done.stdout.splitlines()) == 0


# -- what is asked for ---------------------------------------------------------------------------------------


def test_pods_count_where_they_run() -> None:
    spread = release(
        "spread",
        place={"role": "data_node"},
        pods=[pods(100), pods(10, on="role"), pods(1, on="every")],
        volumes=[{"claim": "data", "size_gib": 2}],
    )
    whole = cluster(roles=("master", "worker", "data_node", "data_node"))
    found = loads(whole, [spread])
    assert found["pi-master"]["spread"] == Use(1, 2, 50, 0)
    assert found["pi-worker-1"]["spread"] == Use(1, 2, 50, 0)
    assert found["pi-worker-2"]["spread"] == Use(111, 222, 150, 2048)
    assert found["pi-worker-3"]["spread"] == Use(11, 22, 100, 0)


def test_a_release_of_k3s_counts_too_and_so_does_k3s_on_a_server() -> None:
    dns = release("coredns", source="k3s", chart=None, place={"role": "master"}, pods=[pods(70)])
    budget = budget_of(platform([dns]), ROOMS)
    master, worker, _ = budget.nodes
    # 1600 MiB less what is reserved anyway
    assert master.uses.keys() == {K3S, "coredns"} and master.uses[K3S].memory_mib == 1600 - 512
    assert not worker.uses


def test_a_node_of_the_inventory_moves_what_has_one_place() -> None:
    whole = cluster(platform_releases={"sql": {"node": "pi-master"}})
    assert "sql" in loads(whole, [release("sql")])["pi-master"]


def test_memory_that_the_inventory_changed_counts_as_it_says() -> None:
    whole = cluster(platform_releases={"sql": {"memory_mib": {"sql": 200}}, "etl": {"memory_mib": {"etl": 3000}}})
    found = loads(whole, [release("sql"), release("etl")])["pi-worker-1"]
    assert found == {"sql": Use(200, 1000, 100), "etl": Use(3000, 3000, 100)}


# -- the verdict ---------------------------------------------------------------------------------------------


def errors(releases: list[Release], **rooms: NodeRoom) -> list[str]:
    there = {**ROOMS, **{name.replace("_", "-"): room for name, room in rooms.items()}}
    return refusals(platform(releases), there)


def test_what_fits_is_not_refused() -> None:
    assert errors([release("sql", memory=7450)]) == []


def test_a_mebibyte_too_much_is_refused_with_the_numbers_and_the_way_out() -> None:
    (line,) = errors([release("sql", memory=6950), release("notebook", memory=501)])
    assert line == (
        "pi-worker-1: the platform asks for 7451 MiB of memory, and there are 7450 MiB: 1 MiB too little; "
        "turn off notebook, the smallest release that is enough: "
        'platform_releases = {"notebook": {"enabled": False}}; '
        'or move notebook: platform_releases = {"notebook": {"node": "pi-worker-2"}}'
    )


def test_what_depends_on_a_release_goes_with_it() -> None:
    base = release("store", memory=5000)
    user = release("sql", memory=100, depends_on=["store"], place={"role": "data_node"})
    other = release("notebook", memory=3000)
    whole = platform([base, user, other])
    assert dependents(whole)["store"] == {"store", "sql"}
    assert budget_of(whole, ROOMS).remedy.off == ("notebook",)
    assert budget_of(platform([base, user]), {**ROOMS, "pi-worker-1": replace(PI5, memory_mib=4000)}).remedy.off == (
        "sql",
        "store",
    )


def test_what_every_cluster_needs_is_never_turned_off() -> None:
    small = {name: replace(PI5, memory_mib=50) for name in ROOMS}
    (line,) = refusals(
        platform([release("certs", profiles=["named", "minimal"])], cluster(kube_reserved={"memory": "2Gi"})), small
    )
    assert "not even the smallest choice fits" in line


def test_one_set_is_named_for_all_nodes_that_are_overfull() -> None:
    agent = release("agent", pods=[pods(200, on="every")])
    budget = budget_of(
        platform([agent, release("sql", memory=7300), release("etl", memory=6200, place={"role": "master"})]), ROOMS
    )
    assert [short.node for short in budget.shortages] == ["pi-master", "pi-worker-1"]
    assert budget.remedy.off == ("agent",)


def test_cpu_can_run_out_too() -> None:
    busy = release("busy", pods=[pods(10, cpu=3900)])
    (found,) = errors([busy])
    assert "asks for 3.90 cores of CPU, and there are 3.80 cores: 0.10 cores too little" in found


def test_an_unknown_node_is_refused_and_not_guessed() -> None:
    (line,) = refusals(platform([release("sql")]), dict.fromkeys(NODES[1:], PI5))
    assert line == "pi-master: what it has is not known: neither its kubelet nor its host answered"


def test_limits_above_the_memory_are_a_warning_with_numbers() -> None:
    budget = budget_of(platform([release("sql", memory=3000), release("etl", memory=1000)]), ROOMS)
    (finding,) = findings(budget)
    assert (finding.severity, finding.host, finding.topic) == ("warning", "pi-worker-1", "budget")
    assert finding.found == ("the limits of its pods are 8000 MiB of memory, 107 % of 7450 MiB (requests: 4000 MiB)")
    assert finding.fix.endswith("sql (3000 to 6000 MiB), etl (1000 to 2000 MiB)")


def test_volumes_that_may_outgrow_what_is_free_are_a_warning() -> None:
    big = release("big", volumes=[{"claim": "data", "size_gib": 46}])
    (finding,) = findings(budget_of(platform([big]), ROOMS))
    assert finding.severity == "warning" and "may grow to 46 GiB, and 44 GiB are left" in finding.found
    assert finding.why.endswith("most is for big (46 GiB)")


def test_a_move_goes_where_all_else_still_fits() -> None:
    rooms = {**ROOMS, "pi-worker-2": replace(PI5, memory_mib=100), "pi-master": replace(PI5, memory_mib=9000)}
    budget = budget_of(platform([release("sql", memory=7000), release("etl", memory=600)]), rooms)
    assert budget.remedy.move == ("etl", "pi-master")
    crowded = {name: replace(room, memory_mib=1100) for name, room in rooms.items()} | {"pi-worker-1": PI5}
    crowded["pi-worker-2"] = replace(PI5, memory_mib=500)
    full = budget_of(platform([release("sql", memory=7000), release("etl", memory=600)]), crowded)
    assert full.remedy.move is None


def test_what_has_volumes_moves_last() -> None:
    stateful = release("db", memory=600, volumes=[{"claim": "data", "size_gib": 1}])
    budget = budget_of(platform([stateful, release("sql", memory=6900)]), ROOMS)
    assert budget.remedy.move == ("sql", "pi-worker-2")


def test_what_is_there_still_may_leave_too_little_for_what_is_new() -> None:
    budget = budget_of(platform([release("new", memory=4000)]), ROOMS)
    assert leftover_findings(budget, [release("old", memory=3000)]) == []
    (finding,) = leftover_findings(budget, [release("old", memory=3500), release("far", place={"role": "master"})])
    assert (finding.severity, finding.host) == ("warning", "pi-worker-1")
    assert finding.found.startswith("beside old, which is there still") and "7500 MiB of memory" in finding.found
    overfull = budget_of(platform([release("new", memory=9000)]), ROOMS)
    assert leftover_findings(overfull, [release("old")]) == [], "that it does not fit is said already"


# -- the smallest set, for all sets --------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=7), st.integers(100, 7450), st.data())
def test_no_smaller_set_would_be_enough(sizes: list[int], there: int, data: st.DataObject) -> None:
    releases = []
    for number, size in enumerate(sizes):
        needs = data.draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True)) if number else []
        releases.append(release(f"r{number}", memory=size, depends_on=[f"r{needed}" for needed in needs]))
    budget = budget_of(platform(releases), {**ROOMS, "pi-worker-1": replace(PI5, memory_mib=there)})
    off = budget.remedy.off
    assert not budget.without(off)
    closed = dependents(budget.platform)
    for count in range(len(off)):
        for names in combinations(closed, count):
            if all(closed[name] <= set(names) for name in names):
                assert budget.without(names), f"{names} is enough, and {off} was named"


def test_many_releases_are_compared_in_a_moment() -> None:
    releases = [release(f"r{number:02}", memory=300 + 7 * number) for number in range(24)]
    budget = budget_of(platform(releases), ROOMS)
    assert len(budget.remedy.off) == 4 and budget.remedy == budget_of(platform(releases[::-1]), ROOMS).remedy
