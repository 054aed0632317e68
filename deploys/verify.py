"""Is the cluster what the inventory says?"""

from __future__ import annotations

from pyinfra.api import deploy

from piclusterops.operations import kube
from piclusterops.settings import Cluster


@deploy("Verify")
def verify(cluster: Cluster) -> None:
    """Fail the run unless the API is healthy and every node is Ready, of the right version, role and labels."""
    kube.healthy(name="Check the cluster", cluster=cluster)
