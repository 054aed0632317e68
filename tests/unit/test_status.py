"""What `picluster status` shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from k3s_samples import cluster
from rich.console import Console

from piclusterops.kube_nodes import KubeNode
from piclusterops.status import age_text, missing_nodes, status_table


def node(name: str, **changes: object) -> KubeNode:
    created = (datetime.now(UTC) - timedelta(hours=50)).isoformat()
    values = {"name": name, "ready": True, "version": "v1.36.5+k3s1", "created": created, **changes}
    return KubeNode(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172799, "47h"), (172800, "2d"), (-5, "0s")],
)
def test_an_age_is_in_the_largest_unit_that_it_fills_twice(seconds: int, text: str) -> None:
    assert age_text(seconds) == text


def test_the_table_shows_age_taints_and_who_is_missing_or_unknown() -> None:
    wanted = cluster(("master", "worker"))
    nodes = [
        node("pi-master", taints=("node-role.kubernetes.io/control-plane=true:NoSchedule",)),
        node("stranger", ready=False),
    ]
    assert missing_nodes(wanted, nodes) == ["pi-worker-1"]
    output = StringIO()
    Console(file=output, width=250).print(status_table(wanted, nodes))
    rows = {line.split()[1]: line for line in output.getvalue().splitlines() if line.startswith("│")}
    assert " 2d " in rows["pi-master"] and "control-plane=true:NoSchedule" in rows["pi-master"]
    assert "(not in the inventory)" in rows["stranger"] and " no " in rows["stranger"]
    assert " missing " in rows["pi-worker-1"]


def test_without_taints_the_table_fits_a_terminal_of_80_columns() -> None:
    wanted = cluster(("master", "worker", "data_node"))
    nodes = [node(f"pi-worker-{number}", address="192.168.100.121") for number in (1, 2)]
    output = StringIO()
    Console(file=output, width=80).print(status_table(wanted, nodes))
    rows = [line for line in output.getvalue().splitlines() if line.startswith("│")]
    assert len(rows) == len(wanted.nodes)
    assert "v1.36.5+k3s1" in rows[0] and "192.168.100.121" in rows[0]
