"""A worker: runs pods."""

from __future__ import annotations

from pyinfra.api import deploy

from piclusterops.k3s_config import DATA_DIR
from piclusterops.operations import hardening

#: CIS 4.1.3 to 4.1.8, in K3s' places (K3s hardening guide).
KUBELET_FILES = (f"{DATA_DIR}/agent/*.kubeconfig", f"{DATA_DIR}/agent/*.crt", f"{DATA_DIR}/agent/*.key")


@deploy("Worker")
def worker() -> None:
    """Keep the kubelet's credentials to root."""
    hardening.private_paths(name="Keep the kubelet's files private", patterns=KUBELET_FILES)
