"""Everything, in order: ``pyinfra -y inventories/prod.py deploys/site.py``.

Nothing is changed before the settings of the whole inventory and the facts of all its hosts were checked. Each phase
is one source line for all hosts, because pyinfra tells operations apart by line numbers: phases begin on no host before
the one above ended on all, and where nodes take turns they do so in the order of the inventory.
"""

from pyinfra import host, inventory

from piclusterops.deploys.base import base
from piclusterops.deploys.boot import boot
from piclusterops.deploys.docker import docker
from piclusterops.deploys.firewall import firewall
from piclusterops.deploys.k3s import k3s
from piclusterops.deploys.network import network
from piclusterops.deploys.nfs_server import nfs_server
from piclusterops.deploys.platform import platform, refuse_platform
from piclusterops.deploys.preflight import preflight
from piclusterops.deploys.roles.data_node import data_node
from piclusterops.deploys.roles.master import master
from piclusterops.deploys.roles.worker import worker
from piclusterops.deploys.sshd import sshd
from piclusterops.deploys.stop import refuse_unreachable, stop_at_first_failure
from piclusterops.deploys.verify import verify
from piclusterops.deploys.wireguard import wireguard
from piclusterops.facts import cache
from piclusterops.validation import cluster_from_inventory

cluster = cluster_from_inventory(inventory)
role = cluster.node(host.name).role

cache.install()
stop_at_first_failure()
refuse_unreachable()
preflight(cluster)
refuse_platform(cluster)

base(cluster=cluster)
boot(cluster=cluster)
network(cluster=cluster)
sshd(cluster=cluster)
firewall(cluster=cluster)
wireguard(cluster=cluster)
nfs_server(cluster=cluster)
docker(cluster=cluster)
k3s(cluster=cluster)
if role == "master":
    master()
if role == "worker":
    worker()
if role == "data_node":
    data_node()
verify(cluster=cluster)
platform(cluster=cluster)
