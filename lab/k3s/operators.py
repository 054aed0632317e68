"""What controllers in pods would do in a cluster whose pods run: volumes, load balancers, certificates.

Each acts on API objects as the real one does, as far as others wait for it: local-path-provisioner (and CSI drivers)
bind claims, MetalLB gives Services addresses of its pools, cert-manager fills the Secrets of Certificates.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import certificates, crds, loadbalancer, log, packaged, volumes
from .api import Api, ApiError, Json

if TYPE_CHECKING:
    from .server import Server

#: Seconds after which what could not be done yet is tried again.
RETRY = 1.0
#: Does what is to be done about one object; False: not yet.
Handler = Callable[[Api, Json], bool]


def start(server: "Server") -> None:
    """Begin, each in a thread of its own, those with custom resources once these are defined."""
    dns = server.cluster_dns()
    _spawn(packaged.apply, server, dns)
    storage = server.options.text("default-local-storage-path", "/var/lib/rancher/k3s/storage")
    _spawn(keep, server, volumes.CLAIMS, lambda api, claim: volumes.provide(api, claim, storage))
    _spawn(keep, server, volumes.VOLUMES, volumes.reclaim)
    authority = certificates.Signer(server.layout.run)
    awaited: dict[str, tuple[str, Handler]] = {
        "helmchartconfigs.helm.cattle.io": (packaged.CHART_CONFIGS, packaged.configure),
        "ipaddresspools.metallb.io": (loadbalancer.SERVICES, loadbalancer.Balancer().serve),
        "clusterissuers.cert-manager.io": (certificates.CLUSTER_ISSUERS, certificates.check_issuer),
        "issuers.cert-manager.io": (certificates.ISSUERS, certificates.check_issuer),
        "certificates.cert-manager.io": (certificates.CERTIFICATES, authority.issue),
    }

    def begin(_: Api, definition: Json) -> bool:
        name = definition["metadata"]["name"]
        conditions = (definition.get("status") or {}).get("conditions") or []
        if name in awaited and any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            _spawn(keep, server, *awaited.pop(name))
        return True

    _spawn(keep, server, crds.CRDS, begin)


def _spawn(work: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def keep(server: "Server", path: str, handler: Handler) -> None:
    """Hand every object at `path` to `handler`, again after each change, and soon again while it says False."""
    api = server.admin()
    while not server.stop.is_set():
        try:
            listed = api.call("GET", path)
            done = [_handled(handler, api, item) for item in listed.get("items") or []]
            if not all(done):
                server.stop.wait(RETRY)
                continue
            for event in api.watch(path, listed["metadata"]["resourceVersion"]):
                if server.stop.is_set():
                    return
                if event["type"] != "DELETED" and not _handled(handler, api, event["object"]):
                    break
        except (ApiError, OSError):
            server.stop.wait(RETRY)


def _handled(handler: Handler, api: Api, item: Json) -> bool:
    meta = item["metadata"]
    try:
        return handler(api, item)
    except ApiError as problem:
        if problem.status not in (404, 409):  # it is gone, or another server was quicker
            log.error(f"{meta.get('namespace', '')}/{meta['name']}: {problem}")
        return problem.status == 404
    except (KeyError, TypeError, ValueError) as problem:
        log.error(f"stand-in: {meta.get('namespace', '')}/{meta['name']}: {problem!r}")
        return True
