"""A master: runs the control plane and keeps the datastore."""

from __future__ import annotations

from pyinfra.api import deploy

from piclusterops.deploys.roles.worker import KUBELET_FILES
from piclusterops.k3s_config import DATA_DIR
from piclusterops.operations import hardening

#: CIS 1.1.11, 1.1.19 to 1.1.21 and 1.1.13 to 1.1.18, in K3s' places (K3s hardening guide).
SERVER_FILES = (
    f"{DATA_DIR}/server/tls",
    f"{DATA_DIR}/server/tls/*.crt",
    f"{DATA_DIR}/server/tls/*.key",
    f"{DATA_DIR}/server/tls/etcd/*",
    f"{DATA_DIR}/server/cred/*.kubeconfig",
    f"{DATA_DIR}/server/db/etcd",
)


@deploy("Master")
def master() -> None:
    """Keep the keys, certificates and datastore of the control plane to root."""
    hardening.private_paths(name="Keep the control plane's files private", patterns=SERVER_FILES + KUBELET_FILES)
