"""Settings of JupyterLab; the chart mounts it, and JupyterLab reads it when it starts."""

# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

import os
from pathlib import Path

c = get_config()

# a file: variables are seen by more, and kernels get them
token = Path(os.environ["TOKEN_FILE"]).read_text(encoding="utf-8").strip()
if len(token) < 16:
    # an empty one would let everybody in
    raise SystemExit("The Secret's key token has fewer than 16 characters.")
c.IdentityProvider.token = token

c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/home/jovyan/work"
c.ServerApp.allow_remote_access = True
# the network policy says who may read them
c.ServerApp.authenticate_prometheus = False
if os.environ.get("TLS_DIR"):
    c.ServerApp.certfile = os.environ["TLS_DIR"] + "/tls.crt"
    c.ServerApp.keyfile = os.environ["TLS_DIR"] + "/tls.key"

# a kernel that nobody looks at gives its memory back after an hour, unless it is busy
c.MappingKernelManager.cull_idle_timeout = 3600
c.MappingKernelManager.cull_interval = 300
c.MappingKernelManager.cull_connected = False
