"""What a cluster gets of a catalogue: the choice, its faults, the order, the nodes and the values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k3s_samples import cluster

from piclusterops.catalogue import Release
from piclusterops.faults import Fault
from piclusterops.platform import Platform, PlatformError, choose, dependencies, merged, place, platform_of
from piclusterops.settings import Cluster

FOUR = ("master", "worker", "data_node", "data_node")
THREE_SERVERS = ("master", "master", "master")
#: Templates are read from files, and how long that takes says nothing.
SOME = settings(deadline=None, max_examples=50)


def release(name: str, **given: Any) -> Release:
    values = {
        "name": name,
        "title": name,
        "namespace": "tests",
        "profiles": ["named"],
        "chart": {"name": name, "version": "1.2.3", "repository": "https://charts.example.org", "app_version": "1"},
        "licence": {"spdx": "Apache-2.0", "source": "LICENSE"},
        "maintenance": {"maintained": True, "note": "2026-08"},
        "arm64": "none",
        **given,
    }
    if values.get("source") in ("k3s", "host"):
        values["chart"] = None
    return Release.model_validate(values)


def named(*releases: Release) -> dict[str, Release]:
    return {one.name: one for one in releases}


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A folder for values; empty ones for the releases a to f."""
    for name in "abcdef":
        (tmp_path / f"{name}.yaml.j2").touch()
    return tmp_path


def faults(given: Cluster, releases: dict[str, Release], templates: Path) -> list[Fault]:
    with pytest.raises(PlatformError) as caught:
        platform_of(given, releases, templates)
    return list(caught.value.faults)


def order(platform: Platform) -> list[str]:
    return [planned.name for planned in platform.releases]


# -- the choice ----------------------------------------------------------------------------------------------


def test_a_profile_selects_the_releases_that_name_it() -> None:
    releases = named(release("a"), release("b", profiles=["clean"]), release("c", profiles=["clean", "named"]))
    assert list(choose(releases, cluster(platform_profile="named").settings)) == ["a", "c"]
    assert list(choose(releases, cluster(platform_profile="clean").settings)) == ["b", "c"]
    assert list(choose(releases, cluster(platform_profile="none").settings)) == []


def test_an_inventory_turns_releases_on_and_off() -> None:
    releases = named(release("a"), release("b", profiles=[]))
    chosen = choose(releases, cluster(platform_releases={"a": {"enabled": False}, "b": {"enabled": True}}).settings)
    assert list(chosen) == ["b"]


def test_a_choice_that_is_silent_about_it_leaves_the_profile_its_say() -> None:
    releases = named(release("a"), release("b", profiles=[]))
    chosen = choose(releases, cluster(platform_releases={"a": {"timeout_s": 60}, "b": {"timeout_s": 60}}).settings)
    assert list(chosen) == ["a"]


def test_what_k3s_brings_is_there_unless_k3s_is_told_otherwise() -> None:
    releases = named(release("traefik", source="k3s", profiles=[]), release("local-path", source="k3s", profiles=[]))
    assert list(choose(releases, cluster(platform_profile="none").settings)) == ["local-path", "traefik"]
    assert list(choose(releases, cluster(k3s_disable=["local-storage"]).settings)) == ["traefik"]


def test_an_unknown_release_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(PlatformError) as caught:
        choose(named(release("grafana")), cluster(platform_releases={"graphana": {"enabled": True}}).settings)
    assert [(fault.key, fault.fix) for fault in caught.value.faults] == [
        ("platform_releases.graphana", "did you mean grafana?")
    ]


def test_two_releases_of_one_contract_are_refused() -> None:
    releases = named(
        release("minio", provides={"object-store": {"url": "http://minio"}}),
        release("seaweedfs", provides={"object-store": {"url": "http://seaweedfs"}}, profiles=[]),
    )
    with pytest.raises(PlatformError) as caught:
        choose(releases, cluster(platform_releases={"seaweedfs": {"enabled": True}}).settings)
    (fault,) = caught.value.faults
    assert fault.why == "minio and seaweedfs both fulfil the contract object-store; only one of them can be on"
    assert fault.fix == 'turn minio off: platform_releases = {"minio": {"enabled": False}}'


def test_a_dependency_that_is_off_is_refused_with_how_to_turn_it_on() -> None:
    releases = named(release("trino", depends_on=["hive-metastore"]), release("hive-metastore", profiles=[]))
    with pytest.raises(PlatformError) as caught:
        choose(releases, cluster().settings)
    (fault,) = caught.value.faults
    assert (fault.key, fault.why) == ("platform_releases.trino", "it depends on hive-metastore, which is off")
    assert 'platform_releases = {"hive-metastore": {"enabled": True}}' in fault.fix


def test_a_contract_that_nothing_selected_fulfils_is_refused_with_all_that_could() -> None:
    releases = named(
        release("velero", depends_on=["object-store"]),
        release("minio", provides={"object-store": {}}, profiles=[]),
        release("seaweedfs", provides={"object-store": {}}, profiles=[]),
    )
    with pytest.raises(PlatformError) as caught:
        choose(releases, cluster().settings)
    (fault,) = caught.value.faults
    assert fault.why == "it depends on the contract object-store, which is off"
    assert '{"minio": {"enabled": True}} or platform_releases = {"seaweedfs"' in fault.fix


def test_what_k3s_was_told_to_leave_out_is_named_as_such() -> None:
    releases = named(release("a", depends_on=["local-path"]), release("local-path", source="k3s"))
    with pytest.raises(PlatformError) as caught:
        choose(releases, cluster(k3s_disable=["local-storage"]).settings)
    (fault,) = caught.value.faults
    assert fault.fix.startswith('turn it on: remove "local-storage" from k3s_disable; or turn a off')


@pytest.mark.parametrize(
    ("choice", "keys"),
    [
        ({"enabled": False}, ["platform_releases.traefik.enabled"]),
        (
            {"values": {"a": 1}, "node": "pi-master"},
            ["platform_releases.traefik.node", "platform_releases.traefik.values"],
        ),
    ],
)
def test_what_nothing_would_heed_is_refused_for_releases_of_k3s(choice: dict[str, Any], keys: list[str]) -> None:
    with pytest.raises(PlatformError) as caught:
        choose(named(release("traefik", source="k3s")), cluster(platform_releases={"traefik": choice}).settings)
    assert [fault.key for fault in caught.value.faults] == keys


def test_a_package_of_the_hosts_may_be_turned_on_and_placed_but_has_no_values() -> None:
    releases = named(release("nfs-server", source="host", profiles=[]))
    choice = {"enabled": True, "node": "pi-master"}
    assert list(choose(releases, cluster(platform_releases={"nfs-server": choice}).settings)) == ["nfs-server"]
    with pytest.raises(PlatformError) as caught:
        choose(releases, cluster(platform_releases={"nfs-server": {**choice, "version": "1"}}).settings)
    assert [fault.key for fault in caught.value.faults] == ["platform_releases.nfs-server.version"]


def test_all_faults_are_listed_at_once(templates: Path) -> None:
    releases = named(
        release("a", provides={"vault": {}}),
        release("b", provides={"vault": {}}),
        release("c", depends_on=["search"]),
        release("d", provides={"search": {}}, profiles=[]),
        release("e", depends_on=["f"]),
        release("f", depends_on=["e"]),
    )
    wrong = cluster(platform_releases={"elastic": {}, "a": {"node": "pi-mastre"}})
    found = faults(wrong, releases, templates)
    assert [fault.key for fault in found] == [
        "platform_releases.elastic",
        "platform_releases",
        "platform_releases.c",
        "platform_releases.a.node",
        "platform_releases",
    ]


def test_an_error_reads_like_those_of_the_inventory(templates: Path) -> None:
    with pytest.raises(PlatformError, match=r"The inventory has 1 fault; nothing was changed on any host."):
        platform_of(cluster(platform_releases={"x": {}}), named(release("a")), templates)


# -- the order -----------------------------------------------------------------------------------------------


def test_a_circle_is_refused_by_its_path(templates: Path) -> None:
    releases = named(release("a", depends_on=["b"]), release("b", depends_on=["c"]), release("c", depends_on=["a"]))
    (fault,) = faults(cluster(), releases, templates)
    assert fault.why == "they depend on each other in a circle: a -> b -> c -> a"


def test_every_circle_is_refused(templates: Path) -> None:
    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
    found = faults(cluster(), named(*(release(name, depends_on=[other]) for name, other in pairs)), templates)
    assert len(found) == 2


def test_a_circle_through_a_contract_is_found(templates: Path) -> None:
    releases = named(release("a", depends_on=["vault"]), release("b", depends_on=["a"], provides={"vault": {}}))
    (fault,) = faults(cluster(), releases, templates)
    assert "circle" in fault.why


@st.composite
def catalogues(draw: st.DrawFn) -> dict[str, Release]:
    """Releases a to f in some waves, each of which depends on some of those of its own or an earlier wave."""
    names = draw(st.permutations(list("abcdef")))
    waves = sorted(draw(st.lists(st.integers(0, 3), min_size=6, max_size=6)))
    made: list[Release] = []
    for name, wave in zip(names, waves, strict=True):
        needed = draw(st.sets(st.sampled_from([one.name for one in made]))) if made else set()
        contracts = {f"contract-{one}" for one in needed if draw(st.booleans())}
        depends = [f"contract-{one}" if f"contract-{one}" in contracts else one for one in sorted(needed)]
        made.append(release(name, wave=wave, depends_on=depends, provides={f"contract-{name}": {}}))
    return named(*draw(st.permutations(made)))


@pytest.fixture(scope="module")
def empty_templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("values")
    for name in "abcdef":
        (folder / f"{name}.yaml.j2").touch()
    return folder


@SOME
@given(catalogues())
def test_waves_and_dependencies_always_come_first(empty_templates: Path, releases: dict[str, Release]) -> None:
    platform = platform_of(cluster(), releases, empty_templates)
    names = order(platform)
    assert sorted(names) == sorted(releases)
    waves = [planned.release.wave for planned in platform.releases]
    assert waves == sorted(waves)
    for name in names:
        assert all(names.index(needed) < names.index(name) for needed in dependencies(platform, name))


@SOME
@given(catalogues(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_that_of_the_catalogue(
    empty_templates: Path, releases: dict[str, Release], random: Any
) -> None:
    shuffled = list(releases.values())
    random.shuffle(shuffled)
    first = platform_of(cluster(), releases, empty_templates)
    assert order(first) == order(platform_of(cluster(), named(*shuffled), empty_templates))


def test_names_decide_between_equals(templates: Path) -> None:
    releases = named(release("b"), release("a"), release("c", wave=1), release("d", depends_on=["a"]))
    assert order(platform_of(cluster(), releases, templates)) == ["a", "b", "d", "c"]


def test_dependencies_name_releases_in_place_of_contracts(templates: Path) -> None:
    releases = named(
        release("a", depends_on=["vault", "b", "traefik"]),
        release("b", provides={"vault": {}}),
        release("c", provides={"vault": {}}, profiles=[]),
        release("traefik", source="k3s"),
    )
    platform = platform_of(cluster(), releases, templates)
    assert dependencies(platform, "a") == ("b", "traefik")
    with pytest.raises(KeyError):
        dependencies(platform, "c")


def test_what_helm_does_not_install_is_listed_apart(templates: Path) -> None:
    releases = named(release("a"), release("traefik", source="k3s"), release("docker", source="host"))
    platform = platform_of(cluster(), releases, templates)
    assert order(platform) == ["a"]
    assert [other.name for other in platform.others] == ["docker", "traefik"]
    assert sorted(platform.selected) == ["a", "docker", "traefik"]


# -- the nodes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "where", "nodes"),
    [
        (FOUR, {"role": "master"}, ("pi-master",)),
        (FOUR, {"role": "data_node"}, ("pi-worker-2", "pi-worker-3")),
        (FOUR, {"role": "data_node", "index": 1}, ("pi-worker-3", "pi-worker-2")),
        (FOUR, {"role": "worker", "index": 1}, ("pi-worker-1",)),
        (FOUR, {}, ("pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3")),
        (("master",), {"role": "data_node", "index": 1}, ("pi-master",)),
        (("master", "worker"), {"role": "data_node", "index": 1}, ("pi-worker-1",)),
        (("master", "data_node"), {"role": "worker"}, ("pi-worker-1",)),
        (THREE_SERVERS, {"role": "worker"}, ("pi-master", "pi-worker-1", "pi-worker-2")),
        (THREE_SERVERS, {"role": "data_node", "index": 1}, ("pi-worker-1", "pi-worker-2", "pi-master")),
    ],
)
def test_a_release_goes_to_its_role_or_to_what_stands_in_for_it(
    roles: tuple[str, ...], where: dict[str, Any], nodes: tuple[str, ...]
) -> None:
    assert place(cluster(roles), release("a", place=where)) == nodes


def test_an_inventory_chooses_among_the_nodes_of_the_role() -> None:
    chosen = cluster(FOUR, platform_releases={"a": {"node": "pi-worker-3"}})
    assert place(chosen, release("a", place={"role": "data_node"})) == ("pi-worker-3", "pi-worker-2")


def test_a_node_of_another_role_takes_the_whole_release() -> None:
    chosen = cluster(FOUR, platform_releases={"a": {"node": "pi-master"}})
    assert place(chosen, release("a", place={"role": "data_node"})) == ("pi-master",)


def test_a_node_that_is_not_in_the_inventory_is_refused(templates: Path) -> None:
    wrong = cluster(FOUR, platform_releases={"a": {"node": "pi-worker-9"}})
    (fault,) = faults(wrong, named(release("a")), templates)
    assert (fault.key, fault.value) == ("platform_releases.a.node", '"pi-worker-9"')
    assert fault.fix.startswith('did you mean "pi-worker-')


def test_what_runs_on_every_node_is_not_placed(templates: Path) -> None:
    pods = {"memory_mib": 1, "memory_limit_mib": 1, "cpu_m": 1}
    everywhere = release("a", pods=[{"name": "agent", "on": "every", **pods}])
    (fault,) = faults(cluster(FOUR, platform_releases={"a": {"node": "pi-master"}}), named(everywhere), templates)
    assert (fault.key, fault.why) == ("platform_releases.a.node", "it runs on every node, and on none in particular")
    partly = release("a", pods=[{"name": "agent", "on": "every", **pods}, {"name": "server", **pods}])
    platform_of(cluster(FOUR, platform_releases={"a": {"node": "pi-master"}}), named(partly), templates)


def test_packages_of_the_hosts_have_nodes_too(templates: Path) -> None:
    releases = named(release("nfs-server", source="host", place={"role": "data_node", "index": 1}))
    assert platform_of(cluster(FOUR), releases, templates).nodes("nfs-server")[0] == "pi-worker-3"


# -- the values ----------------------------------------------------------------------------------------------


def values(text: str, templates: Path, *others: Release, **given: Any) -> dict[str, Any]:
    (templates / "a.yaml.j2").write_text(text)
    chosen = named(release("a", place={"role": "data_node"}), *others)
    return platform_of(cluster(FOUR, **given), chosen, templates).planned("a").values


def test_a_template_knows_its_release_and_its_cluster(templates: Path) -> None:
    text = """
release: {{ release.title }}
version: {{ version }}
node: {{ node }}
nodes: {{ nodes | list }}
domain: {{ domain }}
size: {{ cluster.nodes | length }}
name: {{ settings.cluster_name }}
fixed: {{ address('a') }}
"""
    assert values(text, templates, domain="example.org", service_addresses={"a": "192.168.0.201"}) == {
        "release": "a",
        "version": "1.2.3",
        "node": "pi-worker-2",
        "nodes": ["pi-worker-2", "pi-worker-3"],
        "domain": "example.org",
        "size": 4,
        "name": "piclusterops",
        "fixed": "192.168.0.201",
    }


def test_a_template_asks_for_addresses_releases_and_contracts(templates: Path) -> None:
    text = """
fixed: {{ address('a') or 'none' }}
store: {{ provided('object-store').url }}
selected: {{ [selected('a'), selected('b'), selected('c'), selected('object-store'), selected('vault')] }}
"""
    others = [release("b", provides={"object-store": {"url": "http://b"}}), release("c", profiles=[])]
    assert values(text, templates, *others) == {
        "fixed": "none",
        "store": "http://b",
        "selected": [True, True, False, True, False],
    }


def test_an_empty_template_is_no_values(templates: Path) -> None:
    assert values("# nothing\n", templates) == {}


def test_the_inventory_is_merged_over_the_template(templates: Path) -> None:
    choice = {"values": {"image": {"tag": "2"}, "args": ["c"], "extra": {"x": 1}, "gone": None}, "timeout_s": 77}
    text = "image: {name: a, tag: 1}\nargs: [a, b]\ngone: {x: 1}\n"
    assert values(text, templates, platform_releases={"a": choice}) == {
        "image": {"name": "a", "tag": "2"},
        "args": ["c"],
        "extra": {"x": 1},
        "gone": None,
    }
    platform = platform_of(cluster(platform_releases={"a": choice}), named(release("a")), templates)
    assert platform.planned("a").timeout_s == 77


def test_an_inventory_may_take_another_version_of_the_chart(templates: Path) -> None:
    choice = {"a": {"version": "9.9.9"}}
    assert values("tag: {{ version }}", templates, platform_releases=choice) == {"tag": "9.9.9"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ok: 1\nport: {{ nonsense }}", "they can't be rendered (line 2): 'nonsense' is undefined"),
        (
            "port: {{ settings.prot }}",
            "they can't be rendered (line 1): 'ClusterSettings object' has no attribute 'prot'",
        ),
        ("port: {{ address('a').x }}", "they can't be rendered (line 1): 'None' has no attribute 'x'"),
        ("- a\n- b\n", "they can't be rendered: they are no mapping, but a list"),
        ("a: 1\nb: 2\na: 3", "they can't be rendered: the key 'a' is there twice"),
        ("a: {{ '{' }}", "they can't be rendered: while parsing"),
        ("url: {{ provided('vault').url }}", "they need to know about vault, which nothing selected provides"),
        ("{{ cluster.node('x') }}", "they can't be rendered (line 1): 'x'"),
        ("{% if %}", "they can't be rendered"),
    ],
)
def test_values_that_cannot_be_rendered_are_faults_of_the_release(templates: Path, text: str, why: str) -> None:
    (templates / "a.yaml.j2").write_text(text)
    (fault,) = faults(cluster(FOUR), named(release("a")), templates)
    assert fault.key == "platform_releases.a.values"
    assert why in fault.why.replace("piclusterops.settings.", "")


def test_a_release_without_a_template_is_a_fault(templates: Path) -> None:
    (fault,) = faults(cluster(), named(release("without")), templates)
    assert fault.why == "there is no template of them"
    assert "files/platform/values/without.yaml.j2" in fault.fix


json = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), json), st.dictionaries(st.sampled_from("abc"), json))
def test_merging_twice_changes_nothing_and_keeps_what_lies_over(below: dict[str, Any], over: dict[str, Any]) -> None:
    once = merged(below, over)
    assert merged(once, over) == once
    assert merged(over, over) == over
    assert set(once) == set(below) | set(over)
    assert merged(below, {}) == below
