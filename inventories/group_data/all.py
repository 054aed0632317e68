"""What holds for every host of every inventory. Files named like an inventory, and data of a host, override it."""

from piclusterops.ssh import nodelay_transport

# The user of the image (Raspberry Pi Imager), with a key and sudo without a password: deploys never ask.
ssh_user = "pi"
ssh_key = "~/.ssh/id_ed25519"
_sudo = True

# A new host's key is remembered at the first connection, and a changed one ends the run. On a home network nobody
# can look up the key of a freshly flashed Pi, so that "yes" would make everyone type it in blindly; where you do have
# the keys, write "yes". The folder ~/.ssh must exist.
ssh_known_hosts_file = "~/.ssh/known_hosts"
ssh_strict_host_key_checking = "accept-new"

# Without it every command waits about 40 ms for a delayed acknowledgement.
ssh_paramiko_connect_kwargs = {"transport_factory": nodelay_transport}
