"""A data node: runs databases and object stores, whose volumes are on its own disk."""

from __future__ import annotations

from pyinfra.api import deploy

from piclusterops.deploys.roles.worker import KUBELET_FILES
from piclusterops.operations import hardening


@deploy("Data node")
def data_node() -> None:
    """Keep the kubelet's credentials to root; the directory of local volumes is made so on every node."""
    hardening.private_paths(name="Keep the kubelet's files private", patterns=KUBELET_FILES)
