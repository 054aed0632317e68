"""``python trace.py OUT.json <pyinfra arguments>``: run pyinfra's command line and record every SSH round trip."""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import pyinfra_cli.main
from pyinfra.connectors.ssh import SSHConnector

trips: list[dict[str, Any]] = []


def record(method: str, kind: str) -> None:
    """Wrap a method of the connector so that each call is noted."""
    original = getattr(SSHConnector, method)

    @functools.wraps(original)
    def wrapper(self: SSHConnector, *args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        try:
            return original(self, *args, **kwargs)
        finally:
            host = self.host
            op_hash = host.nested_executing_op_hash or host.executing_op_hash or host.current_op_hash
            meta = self.state.op_meta.get(op_hash) if op_hash else None
            trips.append(
                {
                    "host": host.name,
                    "kind": kind,
                    "stage": self.state.current_stage.name,
                    "operation": ", ".join(sorted(meta.names)) if meta else None,
                    "seconds": round(time.monotonic() - started, 4),
                    "sends": kind == "put" or bool(kwargs.get("_stdin")),
                }
            )

    setattr(SSHConnector, method, wrapper)


def main() -> None:
    out = Path(sys.argv[1])
    sys.argv = ["pyinfra", *sys.argv[2:]]
    record("connect", "connect")
    record("run_shell_command", "exec")
    record("put_file", "put")
    try:
        pyinfra_cli.main.main()
    finally:
        out.write_text(json.dumps(trips))


main()
