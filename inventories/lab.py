"""The container lab, as `picluster lab up` wrote it down; `$PICLUSTEROPS_LAB` names another lab than `lab`."""

from pyinfra.api.exceptions import InventoryError

from piclusterops.lab.state import Fleet, LabError, default_name, state_dir

try:
    _fleet = Fleet.read(state_dir(default_name()) / "fleet.json")
except FileNotFoundError:
    _option = "" if default_name() == "lab" else f" --name {default_name()}"
    raise InventoryError(f"There is no lab called {default_name()}.\nNext: picluster lab up{_option}") from None
except LabError as error:
    raise InventoryError(str(error)) from None


def _hosts(role):
    return [
        (node.name, {"ssh_hostname": node.address, "ssh_port": node.port, "ssh_user": node.user})
        for node in _fleet.nodes
        if node.role == role
    ]


master = _hosts("master")
worker = _hosts("worker")
data_node = _hosts("data_node")
