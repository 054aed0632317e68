"""A deploy of a platform that does not fit ends before it changes anything."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from k3s_samples import NAMES
from platform_samples import platform, release

import piclusterops.deploys.budget as budget
from piclusterops.kube_nodes import KubeNode
from piclusterops.preflight import HostFacts

PI5 = HostFacts("aarch64", 8062, 50_000, "debian", "12", "Debian", cpus=4)
FITS, TOO_LARGE = platform([release("sql")]), platform([release("sql", memory=9000)])


def run_with(
    monkeypatch: pytest.MonkeyPatch,
    facts: HostFacts | None,
    kube: list[KubeNode] | None,
    names: Sequence[str] = NAMES[:3],
) -> list[str]:
    """A run with these hosts, which all answer the same; returns who is asked."""
    asked: list[str] = []
    hosts = [SimpleNamespace(name=name) for name in names]

    def answer(host: SimpleNamespace, *_: object) -> HostFacts | None:
        asked.append(host.name)
        return facts

    monkeypatch.setattr(budget, "state", SimpleNamespace(inventory=hosts, active_hosts=hosts))
    monkeypatch.setattr(budget, "_facts", answer)
    monkeypatch.setattr(budget, "_nodes", lambda _: kube)
    return asked


def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = run_with(monkeypatch, PI5, None)
    budget.refuse_overfull(FITS)
    assert asked == list(NAMES[:3])


def test_what_does_not_fit_ends_the_run_with_numbers_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run_with(monkeypatch, PI5, None)
    with pytest.raises(budget.BudgetError) as caught:
        budget.refuse_overfull(TOO_LARGE)
    text = str(caught.value)
    assert text.startswith("Nothing was changed on any host")
    assert "pi-worker-1: the platform asks for 9000 MiB of memory, and there are 7450 MiB (estimated)" in text
    assert text.endswith("see what it comes to: picluster plan")


def test_what_the_kubelet_says_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    large = [KubeNode(name, True, "v1", memory_mib=16_000, cpu_m=4000) for name in NAMES[:3]]
    run_with(monkeypatch, PI5, large)
    budget.refuse_overfull(TOO_LARGE)


def test_a_host_that_says_nothing_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run_with(monkeypatch, None, None)
    with pytest.raises(budget.BudgetError, match="pi-worker-2: what it has is not known"):
        budget.refuse_overfull(FITS)


@pytest.mark.parametrize("case", ["no first server", "no release"])
def test_where_nothing_is_installed_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    asked = run_with(monkeypatch, None, None, NAMES[1:3] if case == "no first server" else NAMES[:3])
    budget.refuse_overfull(FITS if case == "no first server" else platform([]))
    assert asked == []
