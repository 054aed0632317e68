"""What is done about a release, a chart and a Secret, from what there is: decisions without a host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pyinfra.api import FunctionCommand, StringCommand
from pyinfra.context import ctx_host, ctx_state
from pyinfra_testing.util import FakeState, create_host

from piclusterops import lock
from piclusterops.facts.helm import HelmReleases
from piclusterops.facts.kube import Objects
from piclusterops.facts.snapshot import HostSnapshot, PathState, Snapshot
from piclusterops.helm_charts import Chart, archive_of
from piclusterops.helm_releases import (
    APPLY_LABEL,
    CHART_LABEL,
    DIGEST_LABEL,
    SECRETS_LABEL,
    HelmRelease,
    HelmState,
    Outcome,
)
from piclusterops.kube_objects import ClusterObjects, SecretState
from piclusterops.operations import helm_release
from piclusterops.operations.helm import chart_commands, query_for
from piclusterops.operations.helm_release import Wanted, absent_commands, release_commands
from piclusterops.operations.kube_secrets import WantedSecret, secret_commands
from piclusterops.value_digest import mark_of

Command = StringCommand | FunctionCommand


@pytest.fixture
def chart(tmp_path: Path) -> Chart:
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: demo\nversion: 1.2.3\n")
    return Chart("demo", "1.2.3", folder=tmp_path)


class Run:
    """A host with these facts, and what was said and told while operations looked at it."""

    def __init__(
        self,
        helm: HelmState | None = None,
        paths: dict[str, str] | None = None,
        objects: ClusterObjects | None = None,
        executing: bool = True,
    ) -> None:
        self.state = FakeState()
        self.state.is_executing = executing
        found = {
            path: PathState("regular file", "644", "root", "root", digest) for path, digest in (paths or {}).items()
        }
        self.snapshot = Snapshot(paths=found, probes={"machine": ["aarch64"]})
        self.facts: dict[type, Any] = {HelmReleases: helm, Objects: objects, HostSnapshot: self.snapshot}
        self.outcomes: list[Outcome] = []
        self.noops: list[str] = []
        self.said: list[str] = []

    def of(self, commands: Callable[..., Any]) -> list[Command]:
        """The commands of an operation on the host pi-master."""
        host = create_host(self.state)
        host.name = "pi-master"
        host.get_fact = lambda fact, **_: self.facts[fact]
        host.noop = self.noops.append
        host.log = host.log_styled = lambda text, **_: self.said.append(text)
        with ctx_state.use(self.state), ctx_host.use(host):
            found = list(commands(host))
            for command in found:
                if isinstance(command, FunctionCommand) and command.function.__name__ == "fail":
                    command.function(self.state, host)
        return found


def run_release(run: Run, wanted: Wanted, obstacle: str = "") -> list[Command]:
    query = query_for((wanted.chart,))
    return run.of(lambda host: release_commands(host, wanted, query, run.outcomes.append, lambda: obstacle))


def there(wanted: Wanted, **changes: Any) -> HelmRelease:
    """A release as it is once all that is wanted is done."""
    digest = wanted.digest(archive_of(wanted.chart).digest)
    labels = {CHART_LABEL: wanted.chart.label, DIGEST_LABEL: digest, APPLY_LABEL: "server-side"}
    if wanted.secret_values:
        labels[SECRETS_LABEL] = mark_of(wanted.secret_values)
    known = HelmRelease(wanted.namespace, wanted.release, 3, "deployed", "demo", "1.2.3", labels, 3)
    return replace(known, **changes)


def state(*releases: HelmRelease, **more: Any) -> HelmState:
    return HelmState({release.key: release for release in releases}, **more)


def staged(wanted: Wanted) -> dict[str, str]:
    return {wanted.chart.path: archive_of(wanted.chart).digest}


@pytest.fixture
def wanted(chart: Chart) -> Wanted:
    return Wanted("web", "demo", chart, {"a": 1}, {"password": "hunter2"})


def kinds(run: Run) -> list[str]:
    return [outcome.kind for outcome in run.outcomes]


# -- releases ------------------------------------------------------------------------------------------------


def test_a_release_that_is_right_is_left(wanted: Wanted) -> None:
    run = Run(state(there(wanted)), staged(wanted))
    assert run_release(run, wanted) == []
    assert kinds(run) == ["unchanged"]
    assert run.noops == ["release web is up to date: demo-1.2.3, revision 3"]


@pytest.mark.parametrize(
    "changes",
    [
        {"values": {"a": 2}},
        {"secret_values": {"password": "other"}},
        {"secret_values": {}},
        {"secret_values": {"password": "hunter2", "more": 1}},
    ],
)
def test_a_change_of_any_value_is_one_of_the_release(wanted: Wanted, changes: dict[str, Any]) -> None:
    run = Run(state(there(wanted)), staged(wanted))
    (command,) = run_release(run, replace(wanted, **changes))
    assert isinstance(command, FunctionCommand) and command.function is helm_release._apply


@pytest.mark.parametrize("status", ["failed", "pending-upgrade", "pending-install", "uninstalled", "superseded"])
def test_a_release_of_ours_that_is_not_deployed_is_brought_up(wanted: Wanted, status: str) -> None:
    assert len(run_release(Run(state(there(wanted, status=status)), staged(wanted)), wanted)) == 1


def test_a_changed_chart_of_the_same_version_is_a_change(wanted: Wanted, tmp_path: Path) -> None:
    before = there(wanted)
    (tmp_path / "values.yaml").write_text("b: 1\n")
    assert len(run_release(Run(state(before), staged(wanted)), wanted)) == 1


def test_a_chart_that_is_not_on_the_host_is_an_error_in_a_run_only(wanted: Wanted) -> None:
    run = Run(state())
    run_release(run, wanted)
    assert "its chart /var/lib/piclusterops/charts/demo-1.2.3.tgz is not on this host" in run.said[0]
    assert kinds(run) == ["failed"]
    dry = Run(state(), executing=False)
    assert len(run_release(dry, wanted)) == 1 and dry.said == [] and dry.outcomes == []


def test_an_old_archive_on_the_host_is_not_installed(wanted: Wanted) -> None:
    run = Run(state(), {wanted.chart.path: "0" * 64})
    run_release(run, wanted)
    assert kinds(run) == ["failed"]


def test_flux_keeps_what_it_is_in_charge_of(wanted: Wanted) -> None:
    for releases in ((), (there(wanted, labels={}),)):
        run = Run(state(*releases, flux={("demo", "web"): "flux-system/web"}), staged(wanted))
        assert run_release(run, wanted) == []
        assert kinds(run) == ["left to Flux"]
        assert "flux-system/web" in run.noops[0]


def test_a_pending_release_that_is_not_ours_is_left_alone(wanted: Wanted) -> None:
    run = Run(state(there(wanted, status="pending-install", labels={})), staged(wanted))
    run_release(run, wanted)
    assert kinds(run) == ["failed"]
    assert "delete secret sh.helm.release.v1.web.v3" in run.said[0]


def test_an_obstacle_counts_only_when_there_is_something_to_change(wanted: Wanted) -> None:
    unchanged = Run(state(there(wanted)), staged(wanted))
    assert run_release(unchanged, wanted, obstacle="postgres") == [] and kinds(unchanged) == ["unchanged"]
    skipped = Run(state(), staged(wanted))
    assert run_release(skipped, wanted, obstacle="postgres") == []
    assert skipped.outcomes == [Outcome("web", "skipped", "because of postgres")]


def test_an_api_that_does_not_answer_is_refused_in_a_run(wanted: Wanted) -> None:
    for helm in (None, HelmState(fault="connection refused")):
        run = Run(helm, staged(wanted))
        run_release(run, wanted)
        assert kinds(run) == ["failed"] and "the Kubernetes API does not answer" in run.said[0]


def test_before_there_is_a_cluster_all_of_it_is_to_come(wanted: Wanted) -> None:
    assert len(run_release(Run(None, executing=False), wanted)) == 1


def test_labels_tell_what_the_next_run_needs(wanted: Wanted) -> None:
    first = helm_release._labels(wanted, None, "d")
    assert first[CHART_LABEL] == "demo-1.2.3" and first[DIGEST_LABEL] == "d" and first[APPLY_LABEL] == "server-side"
    assert first[SECRETS_LABEL] and "hunter2" not in str(first)
    assert helm_release._labels(replace(wanted, secret_values={}), there(wanted), "d")[SECRETS_LABEL] is None
    assert APPLY_LABEL not in helm_release._labels(replace(wanted, helm_version="v3.19.0"), None, "d")


def test_fields_of_others_are_taken_back_only_where_we_installed_on_the_server_side(wanted: Wanted) -> None:
    ours = there(wanted)
    assert helm_release._may_force(wanted, ours)
    assert not helm_release._may_force(wanted, None)
    assert not helm_release._may_force(wanted, replace(ours, labels={}))
    assert not helm_release._may_force(replace(wanted, helm_version="v3.19.0"), ours)


def test_nothing_of_a_release_shows_its_secret_values(wanted: Wanted) -> None:
    run = Run(state(), staged(wanted))
    (command,) = run_release(run, wanted)
    assert "hunter2" not in repr(wanted) + repr(command) + str(command.__dict__) + str(run.said)


# -- removing ------------------------------------------------------------------------------------------------


def run_absent(run: Run) -> list[Command]:
    return run.of(lambda host: absent_commands(host, "web", "demo", report=run.outcomes.append))


def test_what_is_not_there_is_not_removed(wanted: Wanted) -> None:
    for helm in (None, state(), state(there(wanted, namespace="elsewhere"))):
        run = Run(helm)
        assert run_absent(run) == [] and len(run.noops) == 1


def test_what_is_there_is_removed_unless_it_is_fluxs_or_anothers_work(wanted: Wanted) -> None:
    assert len(run_absent(Run(state(there(wanted))))) == 1
    flux = Run(state(there(wanted), flux={("demo", "web"): "a/b"}))
    assert run_absent(flux) == [] and kinds(flux) == ["left to Flux"]
    busy = Run(state(there(wanted, status="pending-upgrade", labels={})))
    run_absent(busy)
    assert kinds(busy) == ["failed"]


# -- charts --------------------------------------------------------------------------------------------------


def run_charts(run: Run, *charts: Chart, missed: Any = None, lock_file: str | None = None) -> list[Command]:
    return run.of(lambda _: chart_commands(charts, query_for(charts), missed, lock_file))


def test_charts_that_are_there_are_left(chart: Chart) -> None:
    run = Run(paths={chart.path: archive_of(chart).digest})
    assert run_charts(run, chart) == [] and run.noops == ["1 charts are up to date"]


def test_charts_from_here_go_in_one_upload_and_others_are_pulled_one_by_one(chart: Chart) -> None:
    remote = Chart("a", "1.0.0", repository="https://charts.example"), Chart("b", "1.0.0", repository="oci://x")
    commands = run_charts(Run(), chart, *remote)
    assert [command.function.__name__ for command in commands] == ["_send_charts", "_pull_chart", "_pull_chart"]


def test_a_pulled_chart_is_known_by_its_name_unless_its_digest_is_known() -> None:
    pulled = Chart("a", "1.0.0", repository="https://charts.example")
    paths = {pulled.path: "1" * 64}
    assert run_charts(Run(paths=paths), pulled) == []
    assert run_charts(Run(paths=paths), replace(pulled, digest="1" * 64)) == []
    assert len(run_charts(Run(paths=paths), replace(pulled, digest="2" * 64))) == 1


def test_a_chart_that_can_not_be_had_fails_the_host_or_is_told_of(chart: Chart, tmp_path: Path) -> None:
    gone = Chart("gone", "1.0.0", mirror=str(tmp_path / "nowhere"))
    alone = Run()
    (refusal,) = run_charts(alone, chart, gone)
    assert isinstance(refusal, FunctionCommand) and refusal.function.__name__ == "fail"
    assert "gone-1.0.0.tgz" in alone.said[0]
    missed: list[str] = []
    (send,) = run_charts(Run(), chart, gone, missed=lambda chart, _: missed.append(chart.name))
    assert send.function.__name__ == "_send_charts" and missed == ["gone"]


@pytest.fixture
def mirrored(tmp_path: Path) -> Chart:
    (tmp_path / "other-1.0.0.tgz").write_bytes(b"\x1f\x8b first")
    return Chart("other", "1.0.0", mirror=str(tmp_path))


def test_the_first_use_of_a_chart_is_recorded_in_a_run_only(chart: Chart, mirrored: Chart, tmp_path: Path) -> None:
    path = tmp_path / "prod.lock"
    pulled = Chart("a", "1.0.0", repository="https://charts.example")
    found = {pulled.path: "1" * 64}
    run_charts(Run(paths=found, executing=False), chart, mirrored, pulled, lock_file=str(path))
    assert not path.exists()
    run = Run(paths=found)
    run_charts(run, chart, mirrored, pulled, lock_file=str(path))
    known = {file: entry.sha256 for (_, file), entry in lock.read(path).items()}
    assert known == {mirrored.archive: archive_of(mirrored).digest, pulled.archive: "1" * 64}
    assert f"other-1.0.0.tgz is pinned in {path} from now on" in run.said


def test_a_chart_that_changed_after_its_first_use_is_not_brought(mirrored: Chart, tmp_path: Path) -> None:
    path, first = tmp_path / "prod.lock", archive_of(mirrored).digest
    run_charts(Run(), mirrored, lock_file=str(path))
    (tmp_path / mirrored.archive).write_bytes(b"\x1f\x8b second")
    run = Run(paths={mirrored.path: first})
    (refusal,) = run_charts(run, mirrored, lock_file=str(path))
    assert isinstance(refusal, FunctionCommand) and refusal.function.__name__ == "fail"
    assert archive_of(mirrored).digest in run.said[0] and f"{first} is expected by {path}" in run.said[0]


def test_a_pulled_chart_that_is_not_that_of_the_lock_file_is_pulled_again(tmp_path: Path) -> None:
    path, pulled = tmp_path / "prod.lock", Chart("a", "1.0.0", repository="https://charts.example")
    run_charts(Run(paths={pulled.path: "1" * 64}), pulled, lock_file=str(path))
    assert run_charts(Run(paths={pulled.path: "1" * 64}), pulled, lock_file=str(path)) == []
    (pull,) = run_charts(Run(paths={pulled.path: "2" * 64}), pulled, lock_file=str(path))
    assert isinstance(pull, FunctionCommand) and pull.args[0].digest == "1" * 64


def test_a_damaged_lock_file_stops_charts(mirrored: Chart, tmp_path: Path) -> None:
    (tmp_path / "prod.lock").write_text("[")
    run = Run()
    run_charts(run, mirrored, lock_file=str(tmp_path / "prod.lock"))
    assert "is not a lock file" in run.said[0]


# -- Secrets -------------------------------------------------------------------------------------------------

VALUES = {"user": "admin", "password": SecretStr("hunter2")}
SECRET = WantedSecret("account", "demo", lambda: VALUES)
MARK = mark_of(SECRET.marked({"user": "admin", "password": "hunter2"}))


def run_secrets(run: Run, *secrets: WantedSecret, missed: Any = None) -> list[Command]:
    return run.of(lambda host: secret_commands(host, secrets, 60, missed))


def having(mark: str, type: str = "Opaque") -> ClusterObjects:
    return ClusterObjects({"demo": "Active"}, {("demo", "account"): SecretState(type, mark)})


def test_a_secret_that_is_right_is_left_without_reading_it() -> None:
    assert run_secrets(Run(objects=having(MARK)), SECRET) == []


@pytest.mark.parametrize("mark", ["unfinished", "handed-over", mark_of({"user": "other"})])
def test_a_secret_with_other_values_or_of_a_stopped_run_is_written(mark: str) -> None:
    assert len(run_secrets(Run(objects=having(mark)), SECRET)) == 1


def test_a_change_of_labels_is_one_of_the_secret() -> None:
    assert len(run_secrets(Run(objects=having(MARK)), replace(SECRET, labels={"a": "b"}))) == 1


def test_a_secret_that_is_not_ours_or_of_another_type_is_left_alone() -> None:
    for objects, why in ((having(""), "not ours"), (having(MARK, "kubernetes.io/tls"), "a type can't be changed")):
        run = Run(objects=objects)
        run_secrets(run, SECRET)
        assert why in run.said[0] and "next: " in run.said[0]


def test_values_that_can_not_be_had_do_not_show_others() -> None:
    def broken() -> dict[str, str]:
        raise KeyError("hunter2")

    run = Run(objects=ClusterObjects())
    run_secrets(run, replace(SECRET, values=broken))
    assert "its values can't be had (KeyError)" in run.said[0] and "hunter2" not in str(run.said)


def test_one_secret_that_can_not_be_brought_does_not_hold_up_the_others() -> None:
    missed: list[str] = []
    run = Run(objects=having(""))
    commands = run_secrets(
        run, SECRET, replace(SECRET, name="other"), missed=lambda secret, _: missed.append(secret.name)
    )
    assert missed == ["account"] and len(commands) == 1


def test_no_secrets_cost_nothing() -> None:
    run = Run()
    run.facts = {}
    assert run_secrets(run) == [] and run.noops == ["there are no Secrets to keep"]


def test_nothing_of_a_secret_shows_its_values() -> None:
    run = Run(objects=ClusterObjects(), executing=False)
    (command,) = run_secrets(run, SECRET)
    assert run.said == ["Secret demo/account is made: user, password"]
    assert "hunter2" not in repr(SECRET) + repr(command) + repr(command.args)
