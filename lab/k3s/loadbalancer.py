"""MetalLB's controller: addresses of its pools for Services of type LoadBalancer."""

import ipaddress
from collections.abc import Iterator

from .api import MERGE, Api, Json
from .kubelet import stamp

SERVICES = "/api/v1/services"
POOLS = "/apis/metallb.io/v1beta1/ipaddresspools"
_CONTROLLERS = "/apis/apps/v1/namespaces/metallb-system/deployments"
#: Annotations by which a Service asks for an address; the second is that of releases before 0.14.
_ASKED = ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")


def expand(addresses: list[str]) -> Iterator[str]:
    """The single addresses of ``first-last`` ranges and networks."""
    for item in addresses:
        first, _, last = item.partition("-")
        if last:
            low, high = ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address(last.strip())
            yield from (str(ipaddress.IPv4Address(number)) for number in range(int(low), int(high) + 1))
        else:
            yield from (str(address) for address in ipaddress.IPv4Network(item.strip()))


def choose(service: Json, pools: list[Json], taken: set[str]) -> tuple[str, str]:
    """The address a Service gets, and why it gets none, one of which is empty."""
    notes = service["metadata"].get("annotations") or {}
    asked = next((notes[key] for key in _ASKED if key in notes), service["spec"].get("loadBalancerIP") or "")
    wanted = asked.split(",")[0].strip()
    if wanted:
        if not any(wanted in expand(pool["spec"]["addresses"]) for pool in pools):
            return "", f'["{wanted}"] is not allowed in config'
        return ("", f"can't change sharing key, address {wanted} is in use") if wanted in taken else (wanted, "")
    for pool in pools:
        if pool["spec"].get("autoAssign", True):
            free = next((a for a in expand(pool["spec"]["addresses"]) if a not in taken), None)
            if free:
                return free, ""
    return "", "no available IPs"


def addresses_of(service: Json) -> list[str]:
    """The addresses that a Service has."""
    given = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [item["ip"] for item in given if "ip" in item]


class Balancer:
    """Gives addresses while MetalLB's controller is installed and available."""

    def __init__(self) -> None:
        self.told: set[tuple[str, str]] = set()

    def serve(self, api: Api, service: Json) -> bool:
        """Give a Service its address; False as long as it should have one and has none."""
        meta = service["metadata"]
        notes = meta.get("annotations") or {}
        have = addresses_of(service)
        asked = next((notes[key] for key in _ASKED if key in notes), "")
        if service["spec"].get("type") != "LoadBalancer" or (have and asked in ("", have[0])):
            return True
        controllers = api.call("GET", _CONTROLLERS).get("items") or []
        if not any((item.get("status") or {}).get("availableReplicas") for item in controllers):
            return False
        others = [item for item in api.call("GET", SERVICES)["items"] if item["metadata"]["uid"] != meta["uid"]]
        pools = api.call("GET", POOLS)["items"]
        address, why = choose(service, pools, {a for item in others for a in addresses_of(item)})
        if not address:
            self._tell(api, service, why)
            return False
        # The version makes two servers choose one after the other.
        change = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": _status(address)}
        api.call("PATCH", f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/status", change, MERGE)
        return True

    def _tell(self, api: Api, service: Json, why: str) -> None:
        meta = service["metadata"]
        if (meta["uid"], why) in self.told:
            return
        self.told.add((meta["uid"], why))
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Service",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": "Warning",
            "reason": "AllocationFailed",
            "message": f'Failed to allocate IP for "{meta["namespace"]}/{meta["name"]}": {why}',
            "source": {"component": "metallb-controller"},
            "firstTimestamp": stamp(),
            "lastTimestamp": stamp(),
            "count": 1,
        }
        api.call("POST", f"/api/v1/namespaces/{meta['namespace']}/events", body)


def _status(address: str) -> Json:
    return {"loadBalancer": {"ingress": [{"ip": address}]}}
