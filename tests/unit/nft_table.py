"""A reader of the rulesets that the compiler writes: it says what they do with a packet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

_TOKEN = re.compile(
    r"(iifname|oifname|ip6? [sd]addr|fib daddr type|meta l4proto|(?:tcp|udp|th) dport|udp sport|icmp(?:v6)? type|"
    r"meta pkttype|ip protocol|ct status|ct state vmap) (\{[^}]*\}|\S+)"
)


@dataclass(frozen=True)
class Line:
    match: str
    verdict: tuple[str, str] | None
    comment: str


@dataclass(frozen=True)
class Packet:
    family: int
    iif: str
    oif: str
    saddr: str
    daddr: str
    addrtype: str
    proto: str
    port: int = 0
    dnat: bool = False


@dataclass
class Table:
    sets: dict[str, list[str]] = field(default_factory=dict)
    chains: dict[str, list[Line]] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(text: str) -> Table:
        table = Table()
        body = text[text.index("table inet piclusterops {") :]
        for kind, name, content in re.findall(r"^\t(set|chain) (\w+) \{\n(.*?)^\t\}$", body, re.M | re.S):
            if kind == "set":
                if elements := re.search(r"elements = \{(.*?)\}", content, re.S):
                    table.sets[name] = [item.strip('"') for item in re.split(r"[\s,]+", elements[1].strip()) if item]
            else:
                table.chains[name] = list(table._lines(name, content))
        return table

    def _lines(self, name: str, content: str) -> Iterator[Line]:
        for raw in content.splitlines():
            if base := re.match(r"\t\ttype filter hook \w+ priority [\w -]+; policy (\w+);", raw):
                self.policies[name] = base[1]
            elif not raw.startswith('\t\tcomment "'):
                text, _, comment = raw.strip().partition('comment "')
                found = re.search(r"(?:^| )(accept|drop|reject with .*|goto \w+|jump \w+) *$", text)
                verdict, _, chain = (found[1] if found else "").partition(" ")
                rest = text[: found.start()] if found else text
                yield Line(
                    rest.strip(),
                    (verdict, "" if verdict == "reject" else chain) if found else None,
                    comment.rstrip('"'),
                )

    def hook(self, name: str, packet: Packet) -> str:
        return self._walk(name, packet) or self.policies[name]

    def _walk(self, chain: str, packet: Packet) -> str | None:
        for line in self.chains[chain]:
            if not self._matches(line.match, packet):
                continue
            if line.verdict is None:
                continue
            verdict, target = line.verdict
            if verdict in ("accept", "drop", "reject"):
                return verdict
            found = self._walk(target, packet)
            if found or verdict == "goto":
                return found
        return None

    def _matches(self, text: str, packet: Packet) -> bool:
        if "update @" in text or " log " in text:
            return False  # no limit is reached, and a log decides nothing
        found = list(_TOKEN.finditer(text))
        assert not _TOKEN.sub("", text).replace("counter", "").strip(), f"the reader does not know all of {text!r}"
        return all(self._one(token[1], token[2], packet) for token in found)

    def _one(self, what: str, value: str, packet: Packet) -> bool:
        values = [item.strip().strip('"') for item in value.strip("{} ").split(",")]
        if values[0].startswith("@"):
            values = self.sets[values[0][1:]]
        if what in ("iifname", "oifname"):
            return (packet.iif if what == "iifname" else packet.oif) in values
        if what.endswith("addr"):
            address = ip_address(packet.saddr if "saddr" in what else packet.daddr)
            nets = [ip_network(net) for net in values]
            return packet.family == (6 if "ip6" in what else 4) and any(address in net for net in nets)
        if what == "fib daddr type":
            return packet.addrtype in values
        if what == "meta l4proto":
            return {"icmp": "icmp" if packet.family == 4 else "ipv6-icmp"}.get(packet.proto, packet.proto) in values
        if what.endswith("dport"):
            ends = [(int(item.split("-")[0]), int(item.split("-")[-1])) for item in values]
            ours = what.startswith(("th", packet.proto))
            return ours and any(low <= packet.port <= high for low, high in ends)
        if what.startswith("icmp"):
            return packet.proto == "icmp" and packet.family == (6 if "v6" in what else 4) and "echo-request" in values
        # packets here are new, for one receiver, no multicast membership and no DHCP
        return what == "ct status" and packet.dnat


def fate(table: Table, packet: Packet, to: str) -> str:
    """What happens to a new packet on all its hooks, kube-proxy's DNAT in the middle."""
    first = table.hook("prerouting", packet)
    if first != "accept":
        return first
    if to == "host":
        return table.hook("input", packet)
    rewritten = to in ("nodeport", "vip") and packet.proto != "icmp"
    after = replace(packet, oif="cni0" if to != "zone" else packet.oif, dnat=rewritten)
    return table.hook("forward", after)
