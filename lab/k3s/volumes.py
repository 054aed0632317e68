"""Volumes for claims, as local-path-provisioner and CSI drivers make them, without any data behind them."""

from .api import Api, Json
from .packaged import PROVISIONER

CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
#: Who provides a claim's volume: written there by the controller manager once it is time.
_BY = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
_CSI = ("nfs.csi.k8s.io", "driver.longhorn.io")


def provide(api: Api, claim: Json, storage: str) -> bool:
    """Make the volume of a claim that waits for one; a local one on the node that the scheduler chose."""
    meta = claim["metadata"]
    notes = meta.get("annotations") or {}
    by = next((notes[key] for key in _BY if key in notes), "")
    waits = (claim.get("status") or {}).get("phase") == "Pending" and not claim["spec"].get("volumeName")
    if not waits or meta.get("deletionTimestamp") or by not in (PROVISIONER, *_CSI):
        return True
    node = notes.get("volume.kubernetes.io/selected-node", "")
    if by == PROVISIONER and not node:
        return True
    if api.find(f"{VOLUMES}/pvc-{meta['uid']}") is None:
        api.call("POST", VOLUMES, volume(claim, by, node, storage))
    return True


def volume(claim: Json, by: str, node: str, storage: str) -> Json:
    """The volume that `by` makes for a claim."""
    meta, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{meta['uid']}"
    made: Json = {
        "accessModes": spec["accessModes"],
        "capacity": {"storage": spec["resources"]["requests"]["storage"]},
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
        "persistentVolumeReclaimPolicy": "Delete",
        "storageClassName": spec["storageClassName"],
        "volumeMode": "Filesystem",
    }
    if by == PROVISIONER:
        path = f"{storage}/{name}_{meta['namespace']}_{meta['name']}"
        made["hostPath"] = {"path": path, "type": "DirectoryOrCreate"}
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        made["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    else:
        made["csi"] = {"driver": by, "volumeHandle": name}
    metadata = {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": by}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": made}


def reclaim(api: Api, item: Json) -> bool:
    """Delete a volume of ours whose claim is gone, if its policy says so."""
    ours = (item["metadata"].get("annotations") or {}).get("pv.kubernetes.io/provisioned-by") in (PROVISIONER, *_CSI)
    released = (item.get("status") or {}).get("phase") == "Released"
    if ours and released and item["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
        api.call("DELETE", f"{VOLUMES}/{item['metadata']['name']}")
    return True
