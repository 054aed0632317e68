"""What Helm has installed in the cluster, asked with K3s' own kubectl on a server."""

from __future__ import annotations

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from piclusterops.helm_releases import (
    CHART_LABEL,
    CHARTS_MARK,
    FAULT_MARK,
    FLUX_MARK,
    RELEASES_MARK,
    WORKLOADS_MARK,
    HelmState,
    parse,
)
from piclusterops.k3s_config import BINARY, KUBECONFIG

_SELECTOR = "owner=helm,status!=superseded"
_FLUX_FIELDS = ("metadata.namespace", "metadata.name", "spec.suspend", "spec.releaseName", "spec.targetNamespace")
_FLUX_ROW = '{"|"}'.join(f"{{.{field}}}" for field in (*_FLUX_FIELDS, "spec.storageNamespace"))

_WORKLOAD_FIELDS = ("spec.replicas", "status.readyReplicas", "status.desiredNumberScheduled", "status.numberReady")
_WORKLOAD_ROW = '{"|"}'.join(
    f"{{.{field}}}" for field in ("kind", "metadata.namespace", "metadata.name", *_WORKLOAD_FIELDS)
)


def _items(row: str) -> str:
    return f"-o jsonpath='{{range .items[*]}}{row}{{\"\\n\"}}{{end}}'"


# Silent where there is no API server, and always with status 0: a failing fact would fail the host. Rows of a table
# come without the content of the Secrets. Only the content of releases that others made is looked at, for their
# chart, and stays on the host: it is JSON in gzip in base64 (Helm's) in base64 (the API's). What kubectl remembers of
# the API's kinds is left aside for Flux: it may not know that Flux has come.
_SCRIPT = f"""if [ -x {BINARY} ] && [ -s {KUBECONFIG} ]; then
k() {{ out=$({BINARY} kubectl --request-timeout=20s get "$@" 2>&1) || \
{{ printf '{FAULT_MARK}%s\\n' "$(printf %s "$out" | tr '\\n' ' ' | cut -c1-500)"; return 1; }}; }}
echo '{RELEASES_MARK}'
if k secrets -A -l '{_SELECTOR}' --no-headers --show-labels; then
printf '%s\\n' "$out" | grep 'helm\\.sh/release\\.v1'
echo '{CHARTS_MARK}'
if printf '%s\\n' "$out" | grep 'helm\\.sh/release\\.v1' | grep -qv '{CHART_LABEL}=' && \
k secrets -A -l '{_SELECTOR},!{CHART_LABEL}' \
{_items("{.metadata.namespace} {.metadata.name} {.data.release}")}; then
printf '%s\\n' "$out" | while read -r namespace name blob; do [ -n "$blob" ] || continue
head=$(printf %s "$blob" | base64 -d 2>/dev/null | base64 -d 2>/dev/null | gzip -dc 2>/dev/null | \
LC_ALL=C awk '{{ i = index($0, "\\"chart\\":{{\\"metadata\\":{{"); if (i) print substr($0, i, 4000); exit }}')
chart=${{head#*'"name":"'}}; version=${{head#*'"version":"'}}
[ -z "$head" ] || printf '%s %s %s %s\\n' "$namespace" "$name" "${{chart%%'"'*}}" "${{version%%'"'*}}"; done
fi
echo '{WORKLOADS_MARK}'
k deployments,statefulsets,daemonsets -A {_items(_WORKLOAD_ROW)} && printf '%s\\n' "$out"
echo '{FLUX_MARK}'
if k --raw /apis/helm.toolkit.fluxcd.io; then
c=$(mktemp -d) && k helmreleases.helm.toolkit.fluxcd.io -A --cache-dir="$c" {_items(_FLUX_ROW)} && printf '%s\\n' "$out"
rm -rf "$c"; fi
fi; fi"""


class HelmReleases(FactBase[HelmState | None]):
    """All Helm releases of the cluster, their owners, and which workloads are ready, in one round trip.

    None on a host without an API server.
    """

    def command(self) -> str:
        return _SCRIPT

    def process(self, output: list[str]) -> HelmState:
        try:
            return parse([line for line in output if line.strip()])
        except (KeyError, ValueError) as error:
            raise FactProcessError(f"unexpected answer: {error!r}") from error
