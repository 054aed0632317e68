"""A data node: runs databases and object stores, whose volumes are on its own disk."""

from __future__ import annotations

from pyinfra.api import deploy

from piclusterops.deploys.roles.worker import KUBELET_FILES
from piclusterops.k3s_config import DATA_DIR
from piclusterops.operations import hardening


@deploy("Data node")
def data_node() -> None:
    """Keep the kubelet's credentials, and the directory of the local volumes, to root."""
    hardening.private_paths(
        name="Keep the kubelet's files and the volumes private", patterns=(*KUBELET_FILES, f"{DATA_DIR}/storage")
    )
