"""The shell that Helm is run with on a server. Pure: values never stand in it, they come on stdin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote

from piclusterops.helm_charts import CHARTS_DIR, Chart
from piclusterops.helm_releases import (
    CHARTS_MARK,
    DIGEST_LABEL,
    FLUX_MARK,
    RELEASES_MARK,
)
from piclusterops.k3s_config import KUBECONFIG
from piclusterops.kube_commands import KUBECTL

HELM = "/usr/local/bin/helm"
STATE_DIR = "/var/lib/piclusterops/helm"
#: Revisions that are kept of a release: each is a Secret with the whole chart in it.
HISTORY = 5
#: What the shell ends with when another run of Helm does not come to its end.
BUSY = 75
UNLOCKED_MARK = "@@unlocked "
VOLUME_MARK = "@@volume "
OBJECTS_MARK = "@@objects"
LOG_MARK = "@@log "
NODES_MARK = "@@nodes"

#: Helm's own folders, so that no setting or plugin of root's takes part.
ENVIRONMENT = (
    f"export KUBECONFIG={KUBECONFIG} HELM_CACHE_HOME={STATE_DIR}/cache HELM_CONFIG_HOME={STATE_DIR}/config "
    f"HELM_DATA_HOME={STATE_DIR}/data; unset HELM_NAMESPACE HELM_DRIVER HELM_KUBECONTEXT"
)
_PENDING = "pending-install,pending-upgrade,pending-rollback,uninstalling"
_WATCHED = "pods,jobs,deployments,statefulsets,daemonsets,replicasets"
_KINDS = "pods,jobs,deployments,statefulsets,daemonsets,replicasets,persistentvolumeclaims,events"
#: Which Helm of ours is at work: its process, and a word that its run knows it by.
_AT_WORK = f"{STATE_DIR}/at-work"
_LOG_LINES = 5
_MOST_LOGS = 6


def _locked(wait_s: int) -> str:
    """Shell after which no other run of ours works with Helm on this server.

    Helm inherits the lock: when the controller dies, what it started keeps it to its end.
    """
    return (
        f"umask 077; mkdir -p {STATE_DIR} && exec 9>{STATE_DIR}/lock && "
        f"{{ flock -w {wait_s} 9 || {{ echo 'another run of Helm is at work on this server' >&2; exit {BUSY}; }}; }}"
    )


def _unlock(release: str, namespace: str) -> str:
    """Shell that forgets a revision that a killed run of ours left pending: Helm would refuse every other one.

    Only revisions with our label: what holds the lock is the only Helm that makes those.
    """
    selector = f"owner=helm,name={release},{DIGEST_LABEL},status in ({_PENDING})"
    return (
        f"for s in $({KUBECTL} -n {namespace} get secrets -l {quote(selector)} -o name </dev/null); do "
        f'{KUBECTL} -n {namespace} delete "$s" </dev/null >/dev/null && echo "{UNLOCKED_MARK}$s" || exit 1; done'
    )


def upgrade(
    release: str,
    namespace: str,
    chart: str,
    labels: Mapping[str, str | None],
    timeout_s: int,
    wait: bool = True,
    create_namespace: bool = False,
    force_conflicts: bool = False,
    word: str = "",
) -> str:
    """Shell that installs or upgrades a release with the values on its stdin.

    Args:
        release: name of the release.
        namespace: its namespace.
        chart: path of the chart's archive on the host.
        labels: labels of the revision; with None a label is taken away.
        timeout_s: how long it may take to become ready, in seconds.
        wait: whether to wait for that.
        create_namespace: whether to make the namespace.
        force_conflicts: whether fields that others changed are taken back; of server-side apply only.
        word: by which `watch` and `end` know this Helm from those of other runs; needed for them only.
    """
    pairs = ",".join(f"{key}={'null' if value is None else value}" for key, value in labels.items())
    words = [f"{HELM} upgrade --install {quote(release)} {quote(chart)} -n {quote(namespace)} -f - --reset-values"]
    words.append(f"--history-max {HISTORY} --timeout {timeout_s}s --labels {quote(pairs)}")
    words += ["--wait"] if wait else []
    words += ["--create-namespace"] if create_namespace else []
    words += ["--force-conflicts"] if force_conflicts else []
    # The notes of a chart on stdout may show secret values.
    helm = f"{' '.join(words)} >/dev/null"
    if word:
        noted = quote(f'echo "$$ {word}" >{_AT_WORK}; exec {helm}')
        helm = f"{{ sh -c {noted}; s=$?; rm -f {_AT_WORK}; [ $s = 0 ]; }}"
    return f"{ENVIRONMENT}; {_locked(timeout_s + 60)} && {{ {_unlock(release, namespace)}; }} && {helm}"


def _if_at_work(word: str) -> str:
    """Shell that ends quietly unless the Helm of that word is at work; its process is `$p` then."""
    return f'[ -f {_AT_WORK} ] && read -r p w <{_AT_WORK} && [ "$w" = {quote(word)} ] && [ -d "/proc/$p" ] || exit 0'


def watch(namespace: str, word: str) -> str:
    """Shell that prints what tells whether a Helm that is at work waits for what can't come; nothing when it is not.

    The time here, and since when it is at work; what each node can hold; and objects of the namespace, without all
    that is in `evidence` besides: it is read again and again.
    """
    space = f"-n {quote(namespace)}"
    nodes = "'{range .items[*]}{.status.allocatable.cpu} {.status.allocatable.memory}{\"\\n\"}{end}'"
    refused = "events --field-selector=reason=FailedCreate"
    return (
        f'{_if_at_work(word)}; exec 2>/dev/null; echo "$(date +%s) $(stat -c %Y {_AT_WORK})"; '
        f"echo '{NODES_MARK}'; {KUBECTL} get nodes -o jsonpath={nodes}; "
        f"echo '{OBJECTS_MARK}'; {KUBECTL} {space} get {_WATCHED} -o json; "
        f"echo '{OBJECTS_MARK}'; {KUBECTL} {space} get {refused} -o json; true"
    )


def end(word: str) -> str:
    """Shell that ends a Helm that is at work: it marks its release as failed then."""
    return f'{_if_at_work(word)}; kill -TERM "$p"'


def rollback(release: str, namespace: str, revision: int, timeout_s: int, force_conflicts: bool = False) -> str:
    """Shell that goes back to a revision and waits until that is ready."""
    force = " --force-conflicts" if force_conflicts else ""
    return (
        f"{ENVIRONMENT}; {_locked(60)} && {HELM} rollback {quote(release)} {revision} -n {quote(namespace)} --wait "
        f"--history-max {HISTORY} --timeout {timeout_s}s{force} >/dev/null"
    )


def uninstall(release: str, namespace: str, timeout_s: int) -> str:
    """Shell that removes a release."""
    return (
        f"{ENVIRONMENT}; {_locked(timeout_s + 60)} && "
        f"{HELM} uninstall {quote(release)} -n {quote(namespace)} --ignore-not-found --wait --timeout {timeout_s}s "
        ">/dev/null"
    )


def _record(release: str, revision: int) -> str:
    """Name of the Secret that Helm keeps a revision in."""
    return quote(f"sh.helm.release.v1.{release}.v{revision}")


def retain_volumes(release: str, namespace: str, revision: int) -> str:
    """Shell that has every volume of a namespace kept when its claim goes, and prints Helm's record of a release.

    Of the whole namespace, because operators make claims that don't tell which release they are of.
    """
    space = f"-n {quote(namespace)}"
    patch = quote('{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}')
    fields = "'{range .items[*]}{.spec.volumeName}{\"\\n\"}{end}'"
    return (
        f"v=$({KUBECTL} {space} get persistentvolumeclaims -o jsonpath={fields}) || exit 1; "
        f'for n in $v; do {KUBECTL} patch persistentvolume "$n" --type=merge -p {patch} >/dev/null && '
        f'echo "{VOLUME_MARK}$n" || exit 1; done; '
        f"{KUBECTL} {space} get secret {_record(release, revision)} -o jsonpath='{{.data.release}}' | base64 -d && echo"
    )


def patch_record(release: str, namespace: str, revision: int) -> str:
    """Shell that changes Helm's record of a release by the merge patch on its stdin."""
    return (
        f"{KUBECTL} -n {quote(namespace)} patch secret {_record(release, revision)} --type=merge "
        "--patch-file=/dev/stdin >/dev/null"
    )


def values(release: str, namespace: str) -> str:
    """Shell that prints the values that were given to a release, as JSON."""
    return f"{ENVIRONMENT}; {HELM} get values {quote(release)} -n {quote(namespace)} -o json"


def manifest(release: str, namespace: str) -> str:
    """Shell that prints the objects of a release, Secrets included, as YAML."""
    return f"{ENVIRONMENT}; {HELM} get manifest {quote(release)} -n {quote(namespace)}"


def mark_unready(release: str, namespace: str) -> str:
    """Shell that has the next run upgrade a release again: what Helm says of it is not the whole truth."""
    selector = quote(f"owner=helm,name={release},status=deployed")
    return f"{KUBECTL} -n {quote(namespace)} label secrets -l {selector} --overwrite {DIGEST_LABEL}=unready >/dev/null"


def evidence(release: str, namespace: str) -> str:
    """Shell that prints what tells why a release is not ready: its revisions, objects of the namespace, and logs.

    Logs are those of its pods that are not ready, and of its Jobs' pods that failed.
    """
    space = f"-n {quote(namespace)}"
    selector = quote(f"owner=helm,name={release},status!=superseded")
    # Columns of a table: name, ready/all, status, restarts (maybe with blanks in it), age, labels.
    unready = (
        f"awk -v r={quote(release)} "
        '\'{ split($2, n, "/"); l = "," $NF "," } n[1] != n[2] && $3 != "Completed" && '
        '(index($1, r "-") == 1 || index(l, "instance=" r ",") || index(l, ",release=" r ",")) { print $1 }\''
    )
    return (
        f"echo '{RELEASES_MARK}'; {KUBECTL} {space} get secrets -l {selector} --no-headers --show-labels "
        f"2>/dev/null | sed 's|^|{namespace} |'; "
        f"echo '{CHARTS_MARK}'; echo '{FLUX_MARK}'; "
        f"{KUBECTL} {space} get pods --no-headers --show-labels 2>/dev/null | {unready} | head -n {_MOST_LOGS} | "
        f'while read -r p; do echo "{LOG_MARK}$p"; '
        f'{{ {KUBECTL} {space} logs "$p" --all-containers --tail={_LOG_LINES} --previous || '
        f'{KUBECTL} {space} logs "$p" --all-containers --tail={_LOG_LINES}; }} </dev/null 2>/dev/null; done; '
        f"echo '{OBJECTS_MARK}'; {KUBECTL} {space} get {_KINDS} -o json 2>/dev/null; true"
    )


def pull(chart: Chart) -> str:
    """Shell that fetches a chart from its repository on the host itself, verified if its digest is known.

    It prints the SHA-256 of what it has put into place.
    """
    assert chart.repository
    if chart.repository.startswith("oci://"):
        source = quote(f"{chart.repository.rstrip('/')}/{chart.name}")
    else:
        source = f"{quote(chart.name)} --repo {quote(chart.repository)}"
    says = quote(f"but {chart.expectation}")
    check = f'{{ [ "$d" = {chart.digest} ] || {{ echo "its SHA-256 is $d," {says} >&2; false; }}; }} && '
    return (
        f"{ENVIRONMENT}; umask 077; t={CHARTS_DIR}/.pull; trap 'rm -rf \"$t\"' EXIT; "
        f'rm -rf "$t" && mkdir -p "$t" && chmod 755 {CHARTS_DIR} && '
        f'timeout 300 {HELM} pull {source} --version {quote(chart.version)} -d "$t" >/dev/null && '
        f'f=$(find "$t" -name "*.tgz") && [ -f "$f" ] && d=$(sha256sum <"$f") && d=${{d%% *}} && '
        f'{check if chart.digest else ""}chmod 644 "$f" && sync "$f" && '
        f'mv -f "$f" {quote(chart.path)} && sync {CHARTS_DIR} && echo "$d"'
    )


def install_charts(upload: str, digests: Mapping[str, str]) -> str:
    """Shell that puts the archives of an uploaded tar file into their folder: root's own copies are verified first.

    Args:
        upload: path of the tar file on the host.
        digests: name of each archive in it to its SHA-256.
    """
    source, lines = quote(upload), " ".join(quote(f"{digest}  {name}") for name, digest in sorted(digests.items()))
    names = " ".join(quote(name) for name in sorted(digests))
    return (
        f'umask 077; t={CHARTS_DIR}/.new; trap \'rm -rf "$t" {source}\' EXIT; rm -rf "$t" && mkdir -p "$t" && '
        f'chmod 755 {CHARTS_DIR} && tar -xf {source} -C "$t" --no-same-owner && cd "$t" && '
        f"printf '%s\\n' {lines} | sha256sum -c --status && chown 0:0 {names} && chmod 644 {names} && sync {names} && "
        f"mv -f {names} {CHARTS_DIR}/ && sync {CHARTS_DIR}"
    )


def install_helm(upload: str, digest: str, member: str, program_digest: str, version: str) -> str:
    """Shell that puts the program of Helm's uploaded archive into its place, after it has shown that it runs.

    Args:
        upload: path of the archive on the host.
        digest: its SHA-256.
        member: name of the program in it.
        program_digest: SHA-256 of the program.
        version: what it must say it is.
    """
    source, target = quote(upload), f"{HELM}.piclusterops-new"
    return (
        f"umask 077; a={STATE_DIR}/helm.tar.gz; t={target}; mkdir -p {STATE_DIR} && "
        f'trap \'rm -f "$a" "$t" {source}\' EXIT && cat {source} >"$a" && '
        f'printf \'%s  %s\\n\' {digest} "$a" | sha256sum -c --status && tar -xzOf "$a" {quote(member)} >"$t" && '
        f"printf '%s  %s\\n' {program_digest} \"$t\" | sha256sum -c --status && "
        f'chown 0:0 "$t" && chmod 755 "$t" && sync "$t" && '
        f'said=$("$t" version --template "{{{{.Version}}}}") && [ "$said" = {quote(version)} ] && '
        f'mv -f "$t" {HELM} && sync {HELM.rpartition("/")[0]}'
    )


def repository_add(name: str, url: str) -> str:
    """Shell that makes a chart repository known under a name."""
    return f"{ENVIRONMENT}; umask 077; {HELM} repo add {quote(name)} {quote(url)} --force-update >/dev/null"


def repository_remove(name: str) -> str:
    """Shell that forgets a chart repository."""
    return f"{ENVIRONMENT}; {HELM} repo remove {quote(name)} >/dev/null"


#: Shell that prints names and addresses of the chart repositories, and nothing else of their file.
REPOSITORIES = f"grep -E '^ *(- )?(name|url): ' {STATE_DIR}/config/repositories.yaml"


def parse_repositories(lines: Sequence[str]) -> dict[str, str]:
    """Name to address, from the answer of `REPOSITORIES`."""
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        key, _, value = line.strip().removeprefix("- ").partition(": ")
        if key == "name":
            name = value.strip("\"' ")
        elif name:
            found[name] = value.strip("\"' ")
    return found
