"""The compiled ruleset: golden texts, properties over random firewalls, and what the text says against the matrix."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from firewall_samples import CLUSTERS, EVERYTHING, RULESETS, build, common, crowded, firewalls, made
from hypothesis import given
from hypothesis import strategies as st
from nft_table import Packet, Table, fate

from piclusterops.firewall import (
    DEFAULT_ZONE,
    Destination,
    Firewall,
    FirewallError,
    decide,
    home_zone,
    inhabited,
    matrix,
    sources,
    zone_of,
)
from piclusterops.ruleset import Opening, compile_ruleset, foreign_statements, openings, rollback_ruleset
from piclusterops.settings import ROLES, Role
from piclusterops.zones import GROUPS, KINDS, NODE_PORTS, FirewallSettings

GOLDEN = Path(__file__).parent / "golden" / "firewall"
KEYWORDS = {"fwd", "drop", "accept", "reject", "meta", "ct", "fib", "map", "set", "limit", "log", "rule"}


@pytest.mark.parametrize(("name", "role"), RULESETS)
def test_rulesets_are_as_reviewed(name: str, role: Role) -> None:
    """PICLUSTEROPS_UPDATE_GOLDEN=1 writes them anew: read the diff."""
    path = GOLDEN / f"{name}-{role}.nft"
    text = compile_ruleset(CLUSTERS[name], role)
    if os.environ.get("PICLUSTEROPS_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_ruleset_is_compared() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}-{role}.nft" for name, role in RULESETS}


# Over random firewalls


def shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, random)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)
    if isinstance(value, list | tuple):
        items = [shuffled(item, random) for item in value]
        random.shuffle(items)
        return items
    return value


@common
@given(firewalls(), st.randoms(use_true_random=False), st.sampled_from(ROLES))
def test_the_order_of_the_input_does_not_matter(wall: dict[str, Any], random: Any, role: Role) -> None:
    one, other = made(wall), made(shuffled(wall, random))
    assert compile_ruleset(one, role) == compile_ruleset(other, role)
    assert set(matrix(one, role)) == set(matrix(other, role))


@common
@given(st.permutations([*FirewallSettings.model_validate(EVERYTHING).zones]))
def test_the_order_of_nodes_and_zones_does_not_matter(order: list[str]) -> None:
    wall = {**EVERYTHING, "zones": {name: EVERYTHING["zones"][name] for name in order}}
    nodes = CLUSTERS["everything"].nodes
    again = build(["master", "worker", "data_node"], wall, vpn_cidr="10.8.0.0/24")
    again = again.model_copy(update={"nodes": dict(reversed(nodes.items()))})
    for role in ROLES:
        assert compile_ruleset(again, role) == (GOLDEN / f"everything-{role}.nft").read_text()


def covers(one: Opening, other: Opening) -> bool:
    """Whether `other` can never match after `one`."""
    nets = all(
        any(net.version == mine.version and net.subnet_of(mine) for mine in one.destinations)
        for net in other.destinations
    )  # type: ignore[arg-type]
    return (
        one.proto == other.proto
        and (one.scope == "zone" or one.scope == other.scope or (one.scope, other.scope) == ("nodes", "servers"))
        and (not one.destinations or (bool(other.destinations) and nets))
        and all(any(a <= low and high <= b for a, b in one.ports) for low, high in other.ports)
    )


@common
@given(st.one_of(crowded(), firewalls()), st.sampled_from(ROLES))
def test_no_rule_shadows_another(wall: dict[str, Any], role: Role) -> None:
    fw = made(wall)
    for zone in inhabited(fw):
        for kind in KINDS:
            for one, other in combinations(openings(fw, role, zone, kind), 2):
                assert not covers(one, other), (one, other)
                assert not covers(other, one), (other, one)


@common
@given(crowded(), st.sampled_from(ROLES))
def test_crowded_rules_do_what_the_matrix_says(wall: dict[str, Any], role: Role) -> None:
    assert compare(made(wall), role) > 100


def test_rules_that_overlap_become_lines_apart() -> None:
    rules = {
        "wide": {"from": "management", "ports": "8000-8100"},
        "peers": {"from": "nodes", "ports": ["8050", "8090-8110"]},
        "again": {"from": "nodes", "ports": "8105-8120"},
        "chiefs": {"from": "servers", "ports": "8100-8200"},
    }
    lines = [
        (opening.scope, opening.ports, opening.names)
        for opening in openings(build(["master", "worker"], {"rules": rules}), "worker", "management", "host")
        if {*opening.names} & {*rules}
    ]
    assert lines == [
        ("servers", ((8121, 8200),), ("chiefs",)),
        ("nodes", ((8101, 8104),), ("peers",)),
        ("nodes", ((8105, 8110),), ("again", "peers")),
        ("nodes", ((8111, 8120),), ("again",)),
        ("zone", ((8000, 8100),), ("wide",)),
    ]


def test_a_zone_that_may_not_be_routed_is_stopped_before_an_unknown_address_is_rewritten() -> None:
    """An external address of a service that the firewall does not know: after DNAT it would look let in."""
    table = Table.of(compile_ruleset(CLUSTERS["four"], "master"))
    outside = Packet(4, "eth0", "", "203.0.113.9", "192.168.0.77", "unicast", "tcp", 443)
    assert table.hook("prerouting", outside) == "drop"
    assert table.hook("prerouting", replace(outside, iif="cni0")) == "accept"


@common
@given(firewalls(), st.sampled_from(ROLES))
def test_no_line_is_dead(wall: dict[str, Any], role: Role) -> None:
    table = Table.of(compile_ruleset(made(wall), role))
    for name, lines in table.chains.items():
        matches = [
            line.match for line in lines if line.verdict and line.verdict[0] != "jump" and "update" not in line.match
        ]
        assert len(matches) == len(set(matches)), f"{name}: two lines with one match"
        assert "" not in matches[:-1], f"{name}: lines after one that matches everything"
    called = {line.verdict[1] for lines in table.chains.values() for line in lines if line.verdict and line.verdict[1]}
    assert called == set(table.chains) - {"prerouting", "input", "forward", "output"}
    named = {name for lines in table.chains.values() for line in lines for name in re.findall(r"@(\w+)", line.match)}
    assert named == set(table.sets) | {name for name in named if name.startswith("limit_")}


@common
@given(firewalls(), st.sampled_from(ROLES))
def test_every_policy_pair_appears(wall: dict[str, Any], role: Role) -> None:
    fw = made(wall)
    text = compile_ruleset(fw, role)
    zones = inhabited(fw)
    for zone in zones:
        row = fw.policies[zone]
        for kind in ("host", "nodeport"):
            assert f'"policy {zone} -> {kind}: {row[kind]}"' in text
        if all(row[target] == "drop" for target in zones):
            assert f'"policy {zone} -> any zone: drop"' in text
            continue
        for target in zones:
            here = fw.zones[target]
            both = bool(fw.zones[zone].interfaces) or zone == DEFAULT_ZONE
            families = {4, 6} if both else {net.version for net in fw.zones[zone].sources}
            if here.interfaces or target == DEFAULT_ZONE or families & {net.version for net in here.sources}:
                assert f'"policy {zone} -> {target}: {row[target]}"' in text


@common
@given(firewalls(), st.sampled_from(ROLES))
def test_the_text_keeps_to_what_nft_and_other_tables_can_bear(wall: dict[str, Any], role: Role) -> None:
    text = compile_ruleset(made(wall), role)
    assert foreign_statements(text) == []
    assert "flush" not in text
    assert text.index("\ntable inet piclusterops\ndelete table inet piclusterops\ntable inet piclusterops {") > 0
    for line in text.splitlines():
        bare = re.sub(r'"[^"]*"', "", line)
        assert not re.search(r"\b[io]if ", bare), "an interface that does not exist yet would fail the load"
        assert bare.count("{") - bare.count("}") in (-1, 0, 1)
        if "}" in bare and bare.count("{") != bare.count("}"):
            assert bare.strip() == "}"
        if chain := re.match(r"\tchain (\w+) ", line):
            assert chain[1] not in KEYWORDS
        for comment in re.findall(r'comment "([^"]*)"', line):
            assert 0 < len(comment) <= 120


@pytest.mark.parametrize(("name", "role"), RULESETS)
def test_every_rule_has_a_comment_that_names_its_origin(name: str, role: Role) -> None:
    for chain, lines in Table.of(compile_ruleset(CLUSTERS[name], role)).chains.items():
        for line in lines:
            assert line.comment, f"{chain}: {line.match}"


def test_long_names_of_many_rules_still_fit_a_comment() -> None:
    rules = {f"a-very-long-name-of-a-rule-{n}": {"from": "vpn", "ports": 8080} for n in range(9)}
    text = compile_ruleset(build(["master"], {"rules": rules}, vpn_cidr="10.8.0.0/24"), "master")
    assert '..."' in text
    assert max(map(len, re.findall(r'comment "([^"]*)"', text))) == 120


def test_nodes_of_a_role_share_one_ruleset_and_roles_differ() -> None:
    texts = {role: compile_ruleset(CLUSTERS["four"], role) for role in ROLES}
    assert "dport 6443" in texts["master"]
    assert "dport 6443" not in texts["worker"]
    assert texts["worker"].replace("worker", "data_node") == texts["data_node"]


def test_an_unsound_firewall_is_not_compiled() -> None:
    wall = CLUSTERS["four"].model_copy(update={"rules": {}})
    with pytest.raises(FirewallError, match="nobody could log in again"):
        compile_ruleset(wall, "master")


def test_controllers_are_never_limited() -> None:
    text = compile_ruleset(CLUSTERS["everything"], "master")
    limits = [line for line in text.splitlines() if "limit_ssh" in line and "update" in line]
    assert limits
    assert all(re.search(r"ip6? saddr != @controllers_v[46] tcp dport 22 update", line) for line in limits)


# Rollback


def test_a_rollback_restores_the_former_table_or_removes_it() -> None:
    former = compile_ruleset(CLUSTERS["single"], "master")
    assert rollback_ruleset(former) == former
    assert rollback_ruleset(None) == "table inet piclusterops\ndelete table inet piclusterops\n"


@pytest.mark.parametrize(
    "line",
    [
        "flush ruleset",
        "table ip nat {\n}",
        "delete table inet other",
        'include "/etc/x.nft"',
        "table inet piclusterops2 {\n}",
        'table inet piclusterops { comment "}" }\nflush ruleset',
    ],
)
def test_a_rollback_is_never_more_than_the_own_table(line: str) -> None:
    with pytest.raises(ValueError, match="more than table inet piclusterops"):
        rollback_ruleset(compile_ruleset(CLUSTERS["single"], "master") + line + "\n")


# What the text says, read by a small interpreter of the statements that the compiler writes


LOCAL = {4: "192.168.0.120", 6: "fd00:77::120"}


def member(fw: Firewall, source: str, family: int) -> tuple[str, str] | None:
    """An interface and a source address of a zone or group."""
    if source in GROUPS:
        names = fw.servers if source == "servers" else tuple(sorted(set(fw.nodes) - set(fw.servers)))
        found = [str(address) for name in names for address in fw.nodes[name] if address.version == family]
        home = fw.zones[home_zone(fw)]
        return (home.interfaces[0] if home.strict else "lan9", found[0]) if found else None
    zone = fw.zones[source]
    outside = {4: "203.0.113.9", 6: "2001:db8::9"}[family]
    if zone.interfaces:
        return zone.interfaces[0], outside
    taken = {str(address) for addresses in fw.nodes.values() for address in addresses}
    for net in zone.sources:
        for address in (net[1], net[-2], net[300]) if net.num_addresses > 400 else net:
            if net.version == family and zone_of(fw, address) == source and str(address) not in taken:
                return "lan9", str(address)
    return ("lan9", outside) if source == DEFAULT_ZONE else None


def target(fw: Firewall, row: Destination, family: int) -> tuple[str, str, str] | None:
    """Address, address type and outgoing interface of what a row of the matrix aims at."""
    if row.to in ("host", "nodeport"):
        return LOCAL[family], "local", ""
    if row.to in ("vip", "pods"):
        nets = [net for net in (fw.vips if row.to == "vip" else fw.cluster_networks) if net.version == family]
        free = [net[-1] for net in nets if not any(net[-1] in n for r in fw.rules.values() for n in r.destinations)]
        address = row.address or (free[0] if free else None)
        return (str(address), "unicast", "") if address and address.version == family else None
    place = member(fw, row.to, family)
    return (place[1], "unicast", place[0] if fw.zones[row.to].interfaces else "lan9") if place else None


def compare(fw: Firewall, role: Role) -> int:
    table, compared = Table.of(compile_ruleset(fw, role)), 0
    for cell in matrix(fw, role):
        row, family = cell.destination, cell.family
        place, aim = member(fw, cell.source, family), target(fw, row, family)
        if cell.decision.verdict is None or not place or not aim:
            continue
        proto = "tcp" if row.proto == "any" else row.proto
        packet = Packet(family, place[0], aim[2], place[1], aim[0], aim[1], proto, row.port or 0)
        kind = row.to if row.to in KINDS else "zone"
        assert fate(table, packet, kind) == cell.decision.verdict, (cell, packet)
        compared += 1
    return compared


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", CLUSTERS)
def test_the_text_does_what_the_matrix_says(name: str, role: Role) -> None:
    assert compare(CLUSTERS[name], role) > 100


@common
@given(firewalls(), st.sampled_from(ROLES))
def test_the_text_of_any_firewall_does_what_its_matrix_says(wall: dict[str, Any], role: Role) -> None:
    assert compare(made(wall), role) > 100


@common
@given(
    firewalls(),
    st.sampled_from(ROLES),
    st.sampled_from(KINDS),
    st.integers(8000, 8010),
    st.sampled_from(["tcp", "udp"]),
)
def test_the_text_agrees_on_any_port(wall: dict[str, Any], role: Role, kind: str, port: int, proto: str) -> None:
    fw = made(wall)
    table = Table.of(compile_ruleset(fw, role))
    row = Destination(kind, proto, port + NODE_PORTS[0] - 8000 if kind == "nodeport" else port)
    for source in sources(fw):
        place, aim = member(fw, source, 4), target(fw, row, 4)
        if place and aim:
            packet = Packet(4, place[0], "", place[1], aim[0], aim[1], proto, row.port or 0)
            assert fate(table, packet, kind) == decide(fw, role, source, row).verdict, (source, packet)


def test_a_forged_pod_address_gets_nowhere() -> None:
    table = Table.of(compile_ruleset(CLUSTERS["four"], "master"))
    for port in (22, 6443, 10250, 30080):
        packet = Packet(4, "eth0", "", "10.42.3.4", LOCAL[4], "local", "tcp", port)
        assert fate(table, packet, "host") == "drop"
