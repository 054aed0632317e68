"""Our side of the comparison: the deploys whose state ``playbook.yaml`` describes too."""

from pyinfra import inventory

from piclusterops.deploys.base import base
from piclusterops.deploys.boot import boot
from piclusterops.deploys.stop import stop_at_first_failure
from piclusterops.validation import cluster_from_inventory

stop_at_first_failure()
cluster = cluster_from_inventory(inventory)
base(cluster=cluster)
boot(cluster=cluster)
