"""The compiler from a firewall to nftables: `table inet piclusterops`, and nothing but that table.

The text loads on nft 1.0.6 (bookworm) and 1.1.3 (trixie): a statement on each line, interfaces by name (they may not
exist yet at boot), no chain named like a keyword. Loading it replaces the table in one transaction; tables of others,
such as those of kube-proxy and flannel, are not touched.

A new connection is decided before DNAT, by the address and port that its sender used. That is the one place where
NodePorts and LoadBalancer addresses can still be told from each other. The input and forward hooks drop by default and
ask the same chains again, apart from what DNAT has rewritten, which was decided before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from piclusterops.firewall import (
    DEFAULT_ZONE,
    AnyNetwork,
    FirewallError,
    collapse,
    disjoint_sources,
    faults,
    group_addresses,
    home_zone,
    inhabited,
    rules_of,
    within,
)
from piclusterops.settings import Role
from piclusterops.zones import GROUPS, KINDS, NODE_PORTS, Firewall, Kind, Rule, port_ranges

TABLE = "piclusterops"
_REMOVE = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
_MAX_COMMENT = 120
_SADDR = {4: "ip saddr", 6: "ip6 saddr"}
_DADDR = {4: "ip daddr", 6: "ip6 daddr"}
_NODE_PORT_MATCH = "fib daddr type local meta l4proto { tcp, udp } th dport " + "-".join(map(str, NODE_PORTS))
_HOST_MATCH = "fib daddr type { local, broadcast, multicast }"
_ICMP = "destination-unreachable, time-exceeded, parameter-problem, echo-request"
_ICMPV6 = (
    "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, "
    "mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report, "
    "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert"
)

Scope = Literal["servers", "nodes", "zone"]
_SCOPES: tuple[Scope, ...] = ("servers", "nodes", "zone")
Ports = tuple[tuple[int, int], ...]


# Openings: rules of one zone and kind, made so that none covers another


@dataclass(frozen=True)
class Opening:
    """Ports that are accepted from a scope within a zone.

    Attributes:
        scope: the whole zone, or only nodes or servers in it.
        proto: `tcp`, `udp` or `icmp`.
        ports: ranges, both ends included, sorted and apart; empty for icmp.
        destinations: only to these addresses; to all of the kind when empty.
        names: the rules that say so.
    """

    scope: Scope
    proto: str
    ports: Ports
    destinations: tuple[AnyNetwork, ...]
    names: tuple[str, ...]


_Key = tuple[Scope, str, tuple[AnyNetwork, ...]]


def openings(firewall: Firewall, role: Role, zone: str, kind: Kind) -> tuple[Opening, ...]:
    """What rules open from a zone to a kind, narrow scopes first, without what a wider opening has already."""
    if firewall.policies[zone][kind] == "accept":
        return ()
    rules = {name: rule for name, rule in rules_of(firewall, role).items() if rule.to == kind}
    asked: dict[_Key, dict[str, Ports]] = {}
    for name, rule in rules.items():
        scope = scope_of(firewall, rule, zone)
        for proto in rule.protocols if scope else ():
            key = (scope or "zone", proto, collapse(rule.destinations))
            asked.setdefault(key, {})[name] = tuple(port_ranges(rule.ports)) or ((0, 0),)
    found = [
        Opening(scope, proto, () if proto == "icmp" else ports, nets, names)
        for (scope, proto, nets), by_name in asked.items()
        for names, ports in _atoms(by_name, _covered((scope, proto, nets), asked))
    ]
    return tuple(sorted(found, key=_opening_order))


def scope_of(firewall: Firewall, rule: Rule, zone: str) -> Scope | None:
    """The widest scope within a zone that a rule opens to; None when it opens nothing there."""
    if zone in rule.from_:
        return "zone"
    if zone != home_zone(firewall):
        return None
    groups: tuple[Scope, ...] = ("nodes", "servers")
    return next((group for group in groups if group in rule.from_), None)


def wider(one: _Key, other: _Key) -> bool:
    """Whether all that `other` matches is also matched by `one`, which is not the same."""
    scope, proto, nets = one
    if one == other or proto != other[1] or _SCOPES.index(scope) < _SCOPES.index(other[0]):
        return False
    return not nets or (bool(other[2]) and all(any(within(net, mine) for mine in nets) for net in other[2]))


def _covered(key: _Key, asked: dict[_Key, dict[str, Ports]]) -> Ports:
    return tuple(
        ports for other, by_name in asked.items() if wider(other, key) for each in by_name.values() for ports in each
    )


def _atoms(by_name: dict[str, Ports], covered: Ports) -> Iterator[tuple[tuple[str, ...], Ports]]:
    """Ports by the set of rules that open them; what is covered elsewhere is left out."""
    every = [*covered, *(ports for ranges in by_name.values() for ports in ranges)]
    cuts = sorted({first for first, _ in every} | {last + 1 for _, last in every})
    groups: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for first, after in pairwise(cuts):
        names = tuple(sorted(name for name, ranges in by_name.items() if _has(ranges, first)))
        if names and not _has(covered, first):
            groups.setdefault(names, []).append((first, after - 1))
    for names, ranges in groups.items():
        yield names, _joined(ranges)


def _has(ranges: Iterable[tuple[int, int]], port: int) -> bool:
    return any(first <= port <= last for first, last in ranges)


def _joined(ranges: Sequence[tuple[int, int]]) -> Ports:
    """Sorted ranges, those that touch or overlap made one."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def _opening_order(opening: Opening) -> tuple[object, ...]:
    nets = tuple((net.version, int(net.network_address), net.prefixlen) for net in opening.destinations)
    return _SCOPES.index(opening.scope), not nets, nets, opening.proto, opening.ports


# Text


def compile_ruleset(firewall: Firewall, role: Role) -> str:
    """The ruleset of the nodes of a role, for `nft -f`. Equal firewalls give equal text, however they are ordered.

    Raises:
        FirewallError: the firewall must not be applied.
    """
    if found := faults(firewall):
        raise FirewallError(found)
    return _Compiler(firewall, role).text()


def rollback_ruleset(previous: str | None) -> str:
    """What undoes an applied ruleset: the ruleset that was in force before, or no table when there was none.

    Only the own table: a saved copy of everything can't be loaded again where iptables-nft has rules.

    Raises:
        ValueError: `previous` is more than the own table.
    """
    if previous is None:
        return _REMOVE
    if strange := foreign_statements(previous):
        raise ValueError(f"the former ruleset has more than table inet {TABLE}: {strange[0]}")
    return previous


def foreign_statements(text: str) -> list[str]:
    """The statements of a ruleset that are not about the own table."""
    own = re.compile(rf"((add|delete) )?table inet {TABLE}( \{{)?")
    depth, found = 0, []
    for raw in text.splitlines():
        line = re.sub(r'"[^"]*"', '""', raw.split("#")[0]).strip()
        if depth == 0 and line and not own.fullmatch(line):
            found.append(line)
        depth += line.count("{") - line.count("}")
    return found


def _statement(match: str, verdict: str, comment: str) -> str:
    text = comment if len(comment) <= _MAX_COMMENT else comment[: _MAX_COMMENT - 3] + "..."
    return " ".join(filter(None, (match, verdict, f'comment "{text}"')))


def _block(head: str, lines: Iterable[str]) -> list[str]:
    return [f"\t{head} {{", *(f"\t\t{line}" for line in lines), "\t}"]


def _port_match(proto: str, ports: Ports) -> str:
    if proto == "icmp":
        return "meta l4proto { icmp, ipv6-icmp }"
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ports]
    return f"{proto} dport {texts[0] if len(texts) == 1 else '{ ' + ', '.join(texts) + ' }'}"


def _identifier(name: str) -> str:
    return name.replace("-", "_")


class _Compiler:
    """Writes the table of one role. Zones that no packet can come from get no chains."""

    def __init__(self, firewall: Firewall, role: Role) -> None:
        self.firewall = firewall
        self.role = role
        self.zones = inhabited(firewall)
        self.sources = disjoint_sources(firewall.zones)
        self.sets: dict[str, tuple[AnyNetwork, ...]] = {
            **self.sources,
            "vips": collapse(firewall.vips),
            "cluster": collapse(firewall.cluster_networks),
            "controllers": collapse(firewall.controllers),
            **{group: group_addresses(firewall, group) for group in GROUPS},
        }

    def text(self) -> str:
        chains = [*self._always(), *(line for zone in self.zones for line in self._zone(zone)), *self._hooks()]
        body = [*self._sets(chains), *chains]
        head = [
            "#!/usr/sbin/nft -f",
            f"# PiClusterOps: the firewall of a node of role {self.role}. Changes made here are overwritten.",
            _REMOVE + f"table inet {TABLE} {{",
        ]
        return "\n".join([*head, *body, "}", ""])

    # sets

    def _sets(self, chains: Sequence[str]) -> list[str]:
        """The sets that the chains name."""
        used = {name for line in chains for name in re.findall(r"@(\w+)", line)}
        lines: list[str] = []
        for zone in self.zones:
            if interfaces := sorted(set(self.firewall.zones[zone].interfaces)):
                names = ", ".join(f'"{name}"' for name in interfaces)
                content = ("type ifname", f'comment "zone {zone}: interfaces"', f"elements = {{ {names} }}")
                lines += _block(f"set {zone}_if", content)
        for name, networks in self.sets.items():
            for family in (4, 6):
                if f"{name}_v{family}" in used:
                    lines += self._network_set(name, family, networks)
        for name, rule in sorted(self.firewall.rules.items()):
            for family in (4, 6):
                if f"limit_{_identifier(name)}_v{family}" in used:
                    lines += self._limit_set(name, family, rule)
        return lines

    def _network_set(self, name: str, family: int, networks: Iterable[AnyNetwork]) -> list[str]:
        what = f"zone {name}: sources" if name in self.zones else f"addresses of {name}"
        own = [str(net).removesuffix("/32").removesuffix("/128") for net in networks if net.version == family]
        head = (f"type ipv{family}_addr", "flags interval", f'comment "{what}"', "elements = {")
        return _block(f"set {name}_v{family}", (*head, *(f"\t{net}," for net in own), "}"))

    def _limit_set(self, name: str, family: int, rule: Rule) -> list[str]:
        content = (
            f"type ipv{family}_addr",
            "size 65535",
            "flags dynamic,timeout",
            "timeout 1h",
            f'comment "rule {name}: who connects how often"',
        )
        return _block(f"set limit_{_identifier(name)}_v{family}", content)

    def _has(self, name: str, family: int) -> bool:
        return any(net.version == family for net in self.sets[name])

    def _families(self, name: str) -> list[int]:
        return [family for family in (4, 6) if self._has(name, family)]

    def _families_from(self, zone: str) -> list[int]:
        """The families in which a packet can be of a zone."""
        everything = zone == DEFAULT_ZONE or bool(self.firewall.zones[zone].interfaces)
        return [4, 6] if everything else self._families(zone)

    # chains of zones

    def _zone(self, zone: str) -> list[str]:
        cells = {kind: openings(self.firewall, self.role, zone, kind) for kind in KINDS}
        lines: list[str] = []
        for kind, opened in cells.items():
            if opened and self._matches_from(zone, kind):
                lines += _block(f"chain {zone}_to_{kind}", self._cell(zone, kind, opened))
        lines += _block(f"chain {zone}_zone", self._kinds(zone, cells))
        if gate := self._gate(zone):
            lines += _block(f"chain {zone}_gate", gate)
        if self._forwards(zone):
            lines += _block(f"chain {zone}_forward", self._forward(zone))
        used = "\n".join(lines)
        refusals = [self._refusal(zone, verdict) for verdict in ("drop", "reject") if f"goto {zone}_{verdict} " in used]
        return [line for refusal in (*refusals, lines) for line in refusal]

    def _refusal(self, zone: str, verdict: str) -> list[str]:
        origin = f"zone {zone}: {verdict}"
        lines = [_statement("meta pkttype { broadcast, multicast }", "drop", f"{origin} without a log")]
        lines += [self._log(f"{verdict} {zone}", origin)]
        if verdict == "reject":
            lines += [_statement("meta l4proto tcp counter", "reject with tcp reset", origin)]
            lines += [_statement("counter", "reject with icmpx admin-prohibited", origin)]
        else:
            lines += [_statement("counter", "drop", origin)]
        return _block(f"chain {zone}_{verdict}", lines)

    def _log(self, what: str, origin: str) -> str:
        log = f'limit rate 6/minute burst 10 packets log prefix "{TABLE} {what}: " level info'
        return _statement(log, "", origin)

    def _cell(self, zone: str, kind: Kind, opened: Iterable[Opening]) -> Iterator[str]:
        yield f'comment "from {zone} to {kind}"'
        for opening in opened:
            names = ", ".join(opening.names)
            why = ", ".join(filter(None, (self.firewall.rules[name].comment for name in opening.names)))
            origin = f"rule {names}" + (f": {why}" if why else "")
            for where in self._wheres(zone, opening.scope, opening.destinations):
                yield _statement(f"{where}{_port_match(opening.proto, opening.ports)}", "accept", origin)
        yield self._policy(zone, kind, "")

    def _wheres(self, zone: str, scope: Scope, nets: Sequence[AnyNetwork]) -> list[str]:
        """The matches on addresses: one for each family, or a single empty one when no address matters."""
        if scope == "zone" and not nets:
            return [""]
        wheres = (self._where(scope, nets, family) for family in self._families_from(zone))
        return [where for where in wheres if where is not None]

    def _where(self, scope: Scope, nets: Sequence[AnyNetwork], family: int) -> str | None:
        """The match on addresses of a family; None when it has none of them."""
        own = [str(net) for net in nets if net.version == family]
        if (nets and not own) or (scope != "zone" and not self._has(scope, family)):
            return None
        source = "" if scope == "zone" else f"{_SADDR[family]} @{scope}_v{family} "
        return source + (f"{_DADDR[family]} {{ {', '.join(own)} }} " if own else "")

    def _policy(self, zone: str, target: str, match: str) -> str:
        verdict = self.firewall.policies[zone][target]
        action = verdict if verdict == "accept" else f"goto {zone}_{verdict}"
        return _statement(match, action, f"policy {zone} -> {target}: {verdict}")

    def _kinds(self, zone: str, cells: dict[Kind, tuple[Opening, ...]]) -> Iterator[str]:
        yield f'comment "what comes from zone {zone}, by what it aims at"'
        for kind in ("vip", "pods", "nodeport", "host"):
            for match in self._matches_from(zone, kind):
                if cells[kind]:
                    yield _statement(match, f"goto {zone}_to_{kind}", f"from {zone} to {kind}")
                else:
                    yield self._policy(zone, kind, match)

    def _matches_from(self, zone: str, kind: Kind) -> list[str]:
        """The matches on a kind of destination that a packet of a zone can meet."""
        matches = self._kind_matches(kind)
        return list(dict.fromkeys(matches[family] for family in self._families_from(zone) if family in matches))

    def _kind_matches(self, kind: Kind) -> dict[int, str]:
        """The match on a kind of destination by family."""
        name = {"vip": "vips", "pods": "cluster"}.get(kind)
        if name:
            return {family: f"{_DADDR[family]} @{name}_v{family}" for family in self._families(name)}
        return dict.fromkeys((4, 6), _NODE_PORT_MATCH if kind == "nodeport" else _HOST_MATCH)

    def _forwards(self, zone: str) -> bool:
        return any(self.firewall.policies[zone][target] != "drop" for target in self.zones)

    def _gate(self, zone: str) -> list[str]:
        """The chain before DNAT, where it has to do more than the zone's own chain."""
        limits = list(self._limits(zone))
        if not limits and self._forwards(zone):
            return []
        head = [f'comment "before DNAT, from zone {zone}"', *limits]
        own = f"zone {zone}"
        if self._forwards(zone):
            return [*head, _statement("", f"goto {zone}_zone", own)]
        nothing = f"policy {zone} -> any zone: drop"
        return [*head, _statement("", f"jump {zone}_zone", own), _statement("", f"goto {zone}_drop", nothing)]

    def _limits(self, zone: str) -> Iterator[str]:
        for name, rule in sorted(rules_of(self.firewall, self.role).items()):
            scope = scope_of(self.firewall, rule, zone)
            if rule.rate and scope:
                rate = f"{rule.rate.connections}/{rule.rate.per} burst {rule.rate.burst} packets"
                for family in self._families_from(zone):
                    who = "ip saddr" if family == 4 else "ip6 saddr & ffff:ffff:ffff:ffff::"
                    update = f"update @limit_{_identifier(name)}_v{family} {{ {who} limit rate over {rate} }}"
                    for match in self._limited(rule, scope, family):
                        yield _statement(f"{match} {update}", f"goto {zone}_drop", f"rule {name}: too many")

    def _limited(self, rule: Rule, scope: Scope, family: int) -> Iterator[str]:
        kind = self._kind_matches(rule.to).get(family)
        where = self._where(scope, collapse(rule.destinations), family)
        if kind is None or where is None:
            return
        others = f"{_SADDR[family]} != @controllers_v{family} " if self._has("controllers", family) else ""
        for proto in rule.protocols:
            yield f"{kind} {where}{others}{_port_match(proto, _joined(sorted(port_ranges(rule.ports))))}"

    def _forward(self, zone: str) -> Iterator[str]:
        yield f'comment "through the node, from zone {zone}"'
        yield _statement("", f"jump {zone}_zone", f"zone {zone}")
        for target in self.zones:
            if self.firewall.zones[target].interfaces:
                yield self._policy(zone, target, f"oifname @{target}_if")
        for target in self.zones:
            # the addresses of pods are a kind of their own
            for family in self._families(target) if target != "pods" else ():
                if family in self._families_from(zone):
                    yield self._policy(zone, target, f"{_DADDR[family]} @{target}_v{family}")
        yield self._policy(zone, DEFAULT_ZONE, "")

    # base chains

    def _always(self) -> list[str]:
        icmp = "ICMP that networks need"
        lines = [
            'comment "what every zone may send to a node"',
            _statement(f"icmp type {{ {_ICMP} }}", "accept", icmp),
            _statement(f"icmpv6 type {{ {_ICMPV6} }}", "accept", f"{icmp}: neighbour discovery"),
            _statement("ip protocol igmp", "accept", "multicast membership"),
            _statement("udp sport 67 udp dport 68", "accept", "DHCP client"),
            _statement("ip6 saddr fe80::/10 udp sport 547 udp dport 546", "accept", "DHCPv6 client"),
        ]
        forged = [self._log("drop forged", "forged source"), _statement("counter", "drop", "forged source")]
        strict = any(self.firewall.zones[zone].strict for zone in self.zones)
        return [*_block("chain always", lines), *(_block("chain forged", forged) if strict else ())]

    def _hooks(self) -> list[str]:
        known = "ct state vmap { established : accept, related : accept, invalid : drop }"
        first = [_statement(known, "", "established first"), _statement('iifname "lo"', "accept", "loopback")]
        always = _statement("", "jump always", "ICMP and DHCP")
        rewritten = _statement("ct status dnat", "accept", "decided before DNAT")
        gates = {zone: f"{zone}_gate" if self._gate(zone) else f"{zone}_zone" for zone in self.zones}
        through = {zone: f"{zone}_forward" if self._forwards(zone) else f"{zone}_zone" for zone in self.zones}
        return [
            *_base("prerouting", "dstnat - 10", "accept", [*first, always, *self._dispatch(gates.__getitem__)]),
            *_base(
                "input", "filter - 5", "drop", [*first, always, rewritten, *self._dispatch(lambda zone: f"{zone}_zone")]
            ),
            *_base("forward", "filter - 5", "drop", [first[0], rewritten, *self._dispatch(through.__getitem__)]),
            *_base("output", "filter - 5", "accept", ['comment "a node may send everything"']),
        ]

    def _dispatch(self, chain: Callable[[str], str]) -> Iterator[str]:
        """From a packet to its zone: by interface, then by source address (the sets are disjoint), else the default."""
        for zone in self.zones:
            if self.firewall.zones[zone].interfaces:
                yield _statement(f"iifname @{zone}_if", f"goto {chain(zone)}", f"zone {zone}: interface")
        for zone in self.zones:
            for family in self._families(zone):
                strict = self.firewall.zones[zone].strict
                action = "forged" if strict else chain(zone)
                origin = f"zone {zone}: " + ("forged source" if strict else "source")
                yield _statement(f"{_SADDR[family]} @{zone}_v{family}", f"goto {action}", origin)
        yield _statement("", f"goto {chain(DEFAULT_ZONE)}", f"zone {DEFAULT_ZONE}: all the rest")


def _base(hook: str, priority: str, policy: str, lines: Sequence[str]) -> list[str]:
    return _block(f"chain {hook}", [f"type filter hook {hook} priority {priority}; policy {policy};", *lines])
