"""cert-manager: issuers become Ready, Certificates get their Secret, signed as the issuer says.

Issuers of `selfSigned` and `ca` sign as they would; any other (ACME, Vault), which would have to ask someone, signs
with a CA of the stand-in.
"""

import base64
from pathlib import Path

from . import pki
from .api import MERGE, Api, Json
from .kubelet import stamp

_API = "/apis/cert-manager.io/v1"
CLUSTER_ISSUERS = f"{_API}/clusterissuers"
ISSUERS = f"{_API}/issuers"
CERTIFICATES = f"{_API}/certificates"
#: Where a ClusterIssuer's Secrets are (cert-manager's `clusterResourceNamespace`).
NAMESPACE = "cert-manager"
_MADE_FOR = "cert-manager.io/certificate-name"
_GENERATION = "standin.piclusterops.io/generation"


def _path(item: Json) -> str:
    meta = item["metadata"]
    if item["kind"] == "ClusterIssuer":
        return f"{CLUSTER_ISSUERS}/{meta['name']}"
    kind = "issuers" if item["kind"] == "Issuer" else "certificates"
    return f"{_API}/namespaces/{meta['namespace']}/{kind}/{meta['name']}"


def ready(item: Json) -> bool:
    """Whether an issuer or Certificate says that it is ready, as it is now."""
    return any(
        c["type"] == "Ready" and c["status"] == "True" and c.get("observedGeneration") == item["metadata"]["generation"]
        for c in (item.get("status") or {}).get("conditions") or []
    )


def _report(api: Api, item: Json, good: bool, reason: str, message: str) -> bool:
    """Write the Ready condition unless it is there; returns `good`."""
    condition = {
        "type": "Ready",
        "status": "True" if good else "False",
        "reason": reason,
        "message": message,
        "observedGeneration": item["metadata"]["generation"],
    }
    have = (item.get("status") or {}).get("conditions") or []
    if not any({**old, "lastTransitionTime": ""} == {**condition, "lastTransitionTime": ""} for old in have):
        change = {"status": {"conditions": [{**condition, "lastTransitionTime": stamp()}]}}
        api.call("PATCH", f"{_path(item)}/status", change, MERGE)
    return good


def _secret(api: Api, namespace: str, name: str) -> Json | None:
    return api.find(f"/api/v1/namespaces/{namespace}/secrets/{name}")


def check_issuer(api: Api, issuer: Json) -> bool:
    """An issuer is ready when what it signs with is there."""
    name = (issuer["spec"].get("ca") or {}).get("secretName")
    if name and _secret(api, issuer["metadata"].get("namespace", NAMESPACE), name) is None:
        text = f'Error getting keypair for CA issuer: secrets "{name}" not found'
        return _report(api, issuer, False, "ErrGetKeyPair", text)
    return _report(api, issuer, True, "KeyPairVerified" if name else "IsReady", "Signing CA verified" if name else "")


class Signer:
    """Issues certificates; its own CA is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def issue(self, api: Api, certificate: Json) -> bool:
        """Fill the Secret of a Certificate; False as long as its issuer is not ready."""
        meta, spec = certificate["metadata"], certificate["spec"]
        generation = str(meta["generation"])
        there = _secret(api, meta["namespace"], spec["secretName"])
        if there is not None and (there["metadata"].get("annotations") or {}).get(_GENERATION) == generation:
            return _report(api, certificate, True, "Ready", "Certificate is up to date and has not expired")
        issuer = self._issuer(api, certificate)
        if issuer is None or not ready(issuer):
            ref = spec["issuerRef"]
            text = f'Referenced "{ref.get("kind", "Issuer")}" not found or not Ready: {ref["name"]}'
            _report(api, certificate, False, "DoesNotExist", text)
            return False
        data = self._sign(api, issuer, spec)
        template = spec.get("secretTemplate") or {}
        body: Json = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": spec["secretName"],
                "namespace": meta["namespace"],
                "labels": template.get("labels") or {},
                "annotations": {
                    **(template.get("annotations") or {}),
                    _MADE_FOR: meta["name"],
                    _GENERATION: generation,
                },
            },
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }
        api.apply(f"/api/v1/namespaces/{meta['namespace']}/secrets/{spec['secretName']}", body, "cert-manager")
        return _report(api, certificate, True, "Ready", "Certificate is up to date and has not expired")

    def _issuer(self, api: Api, certificate: Json) -> Json | None:
        ref = certificate["spec"]["issuerRef"]
        if ref.get("kind") == "ClusterIssuer":
            return api.find(f"{CLUSTER_ISSUERS}/{ref['name']}")
        return api.find(f"{_API}/namespaces/{certificate['metadata']['namespace']}/issuers/{ref['name']}")

    def _sign(self, api: Api, issuer: Json, spec: Json) -> dict[str, bytes]:
        names = [*(spec.get("dnsNames") or []), *(spec.get("ipAddresses") or [])]
        common_name = spec.get("commonName") or (names or [spec["secretName"]])[0]
        authority = self._authority(api, issuer)
        if spec.get("isCA"):
            made = pki.new_authority(common_name, authority)
            cert, key = made.pem, pki.key_pem(made.key)
        else:
            cert, key = pki.new_leaf(authority or self._own(), common_name, names)
        root = authority.pem if authority else cert
        return {"tls.crt": cert, "tls.key": key, "ca.crt": root}

    def _authority(self, api: Api, issuer: Json) -> pki.Authority | None:
        """Who signs for an issuer; None: the certificate itself."""
        if "selfSigned" in issuer["spec"]:
            return None
        name = (issuer["spec"].get("ca") or {}).get("secretName")
        found = _secret(api, issuer["metadata"].get("namespace", NAMESPACE), name) if name else None
        if found is None:
            return self._own()
        return pki.parse_authority(*(base64.b64decode(found["data"][key]) for key in ("tls.crt", "tls.key")))

    def _own(self) -> pki.Authority:
        return pki.ensure_authority(self.folder, "cert-manager")
