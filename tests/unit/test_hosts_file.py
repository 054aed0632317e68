"""The cluster's part of /etc/hosts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piclusterops.hosts_file import BEGIN, END, with_cluster

NODES = (("192.168.0.120", "pi-master"), ("192.168.0.121", "pi-worker-1"))
BLOCK = f"""{BEGIN}
192.168.0.120 pi-master.home.arpa pi-master
192.168.0.121 pi-worker-1.home.arpa pi-worker-1
{END}
"""
LOCAL = "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n"

GOLDEN = {
    "as flashed": (f"{LOCAL}127.0.1.1\tpi-master\n", LOCAL + BLOCK),
    "another name on 127.0.1.1": (f"{LOCAL}127.0.1.1 raspberrypi\n", f"{LOCAL}127.0.1.1 raspberrypi\n{BLOCK}"),
    "own name in the domain of an installer": (f"{LOCAL}127.0.1.1 pi-master.localdomain pi-master\n", LOCAL + BLOCK),
    "right already": (LOCAL + BLOCK, LOCAL + BLOCK),
    "block in the middle stays there": (f"{LOCAL}{BLOCK}10.0.0.9 nas\n", f"{LOCAL}{BLOCK}10.0.0.9 nas\n"),
    "an address of before": (
        f"{LOCAL}192.168.7.7 pi-worker-1 printer # old\n",
        f"{LOCAL}192.168.7.7 printer # old\n{BLOCK}",
    ),
    "names in capitals": (f"{LOCAL}192.168.7.7 PI-Worker-1.home.arpa\n", LOCAL + BLOCK),
    "a node that left": (f"{LOCAL}{BEGIN}\n192.168.0.129 pi-worker-9.home.arpa pi-worker-9\n{END}\n", LOCAL + BLOCK),
    "the end marker lost": (
        f"{LOCAL}{BEGIN}\n192.168.0.120 pi-master\n10.0.0.9 nas\n",
        f"{LOCAL}10.0.0.9 nas\n{BLOCK}",
    ),
    "comments and odd lines": (
        f"# mine\n\n{LOCAL}#192.168.7.7 pi-master\nnonsense\n",
        f"# mine\n\n{LOCAL}#192.168.7.7 pi-master\nnonsense\n{BLOCK}",
    ),
    "no newline at the end": (LOCAL.rstrip("\n"), LOCAL + BLOCK),
    "empty": ("", f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{BLOCK}"),
}


@pytest.mark.parametrize(("before", "after"), GOLDEN.values(), ids=GOLDEN.keys())
def test_the_nodes_are_named(before: str, after: str) -> None:
    assert with_cluster(before, NODES, "home.arpa", "pi-master") == after


_NAMES = st.sampled_from(["localhost", "nas", "pi-master", "pi-worker-1.home.arpa", "PI-MASTER", "pi-worker-2"])
_ENTRIES = st.builds(
    lambda address, names: " ".join([address, *names]),
    st.sampled_from(["127.0.0.1", "127.0.1.1", "::1", "10.0.0.9", "192.168.0.120"]),
    st.lists(_NAMES, min_size=1, max_size=3),
)
_FILES = st.lists(
    st.one_of(_ENTRIES, st.sampled_from([BEGIN, END, "", "# note", "10.0.0.9 nas # pi-master"])), max_size=12
).map("\n".join)


def _resolve(text: str, name: str) -> str | None:
    """What the resolver's `files` source answers: the first line that has the name."""
    for line in text.splitlines():
        fields = line.partition("#")[0].split()
        if name in fields[1:]:
            return fields[0]
    return None


@settings(deadline=None)
@given(_FILES)
def test_every_node_resolves_to_its_own_address_and_localhost_resolves(text: str) -> None:
    after = with_cluster(text, NODES, "home.arpa", "pi-master")
    for address, name in NODES:
        assert _resolve(after, name) == address
        assert _resolve(after, f"{name}.home.arpa") == address
    assert _resolve(after, "localhost")


@settings(deadline=None)
@given(_FILES)
def test_writing_twice_changes_nothing_more(text: str) -> None:
    once = with_cluster(text, NODES, "home.arpa", "pi-master")
    assert with_cluster(once, NODES, "home.arpa", "pi-master") == once


@settings(deadline=None)
@given(st.lists(st.sampled_from(["10.0.0.9 nas", "# note", "", "192.168.0.5\tprinter"]), max_size=8))
def test_lines_of_others_stay_in_their_order(lines: list[str]) -> None:
    after = with_cluster("\n".join([*LOCAL.splitlines(), *lines, ""]), NODES, "home.arpa", "pi-master")
    assert after == "\n".join([*LOCAL.splitlines(), *lines, ""]) + BLOCK
