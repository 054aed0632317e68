"""What the Kubernetes API of a server says, asked with K3s' own kubectl on that server."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from piclusterops.helm_releases import FAULT_MARK
from piclusterops.k3s_config import BINARY, KUBECONFIG
from piclusterops.kube_nodes import KubeNode, parse_nodes
from piclusterops.kube_objects import NAMESPACES_MARK, SECRETS_MARK, ClusterObjects, parse

_HEALTH = "@@readyz "
_KUBECTL = f"{BINARY} kubectl --request-timeout=10s"
# Silent where there is no API server, and always with status 0: a failing fact would fail the host.
_SCRIPT = (
    f"if [ -x {BINARY} ] && [ -s {KUBECONFIG} ]; then "
    f"echo \"{_HEALTH}$({_KUBECTL} get --raw /readyz 2>&1 | tr '\\n' ' ' | cut -c1-500)\"; "
    f"{_KUBECTL} get nodes -o json 2>/dev/null || true; fi"
)


_READ = f"{BINARY} kubectl --request-timeout=20s get"
_WITHOUT_HELM = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"
_SECRET_ROW = "{.metadata.namespace}|{.metadata.name}|{.type}|{.metadata.annotations.piclusterops\\.io/digest}"
_OBJECTS_SCRIPT = f"""if [ -x {BINARY} ] && [ -s {KUBECONFIG} ]; then
k() {{ out=$({_READ} "$@" 2>&1) && printf '%s\\n' "$out" || \
printf '{FAULT_MARK}%s\\n' "$(printf %s "$out" | tr '\\n' ' ' | cut -c1-500)"; }}
echo '{NAMESPACES_MARK}'
k namespaces -o jsonpath='{{range .items[*]}}{{.metadata.name}}|{{.status.phase}}{{"\\n"}}{{end}}'
echo '{SECRETS_MARK}'
k secrets -A --field-selector '{_WITHOUT_HELM}' -o jsonpath='{{range .items[*]}}{_SECRET_ROW}{{"\\n"}}{{end}}'
fi"""


@dataclass(frozen=True)
class ApiState:
    """Health and nodes of a cluster: `fault` is empty when ``/readyz`` says ok, `nodes` is None when unknown."""

    fault: str
    nodes: list[KubeNode] | None


class KubeApi(FactBase[ApiState | None]):
    """Health of the API and all nodes, in one round trip; None on a host without an API server."""

    def command(self) -> str:
        return _SCRIPT

    def process(self, output: list[str]) -> ApiState:
        return parse_api(output)


class Nodes(FactBase[list[KubeNode] | None]):
    """The nodes of the cluster, by name; None when the API does not answer."""

    def command(self) -> str:
        return _SCRIPT

    def process(self, output: list[str]) -> list[KubeNode] | None:
        return parse_api(output).nodes


class Objects(FactBase[ClusterObjects | None]):
    """Namespaces and Secrets of the cluster, in one round trip; None on a host without an API server."""

    def command(self) -> str:
        return _OBJECTS_SCRIPT

    def process(self, output: list[str]) -> ClusterObjects:
        try:
            return parse([line for line in output if line.strip()])
        except ValueError as error:
            raise FactProcessError(f"unexpected answer: {error}") from error


def parse_api(output: list[str]) -> ApiState:
    """The answer of a server.

    Raises:
        FactProcessError: it is not of the expected form.
    """
    if not output or not output[0].startswith(_HEALTH.rstrip()):
        raise FactProcessError(f"unexpected answer: {output[:1]}")
    health = output[0].removeprefix(_HEALTH.rstrip()).strip()
    text = "\n".join(output[1:])
    try:
        nodes = parse_nodes(text) if text.strip() else None
    except ValueError as error:
        raise FactProcessError(str(error)) from error
    return ApiState("" if health == "ok" else health or "no answer", nodes)
