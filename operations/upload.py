"""Bring files from the controller to a host: the login user receives them, root verifies its own copy."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from pyinfra.api.host import Host

from piclusterops.operations.quiet import fail, privileges, run_quietly

_HOME = 'umask 077; d="$HOME/.cache/piclusterops"; mkdir -p "$d" && cd "$d" && pwd'


def uploaded(host: Host, source: Path, name: str) -> str | None:
    """Where a file lies on the host once it is in a private folder of the login user; None, and said why, if not."""
    ok, output = run_quietly(host, _HOME, {})
    if not ok:
        fail(host, f"{host.name}: no place for an upload in the home directory: {output.stderr}")
        return None
    target = f"{output.stdout_lines[-1]}/{name}"
    host.log(f"uploading {name} ({source.stat().st_size / 1e6:.1f} MB)")
    if not host.put_file(str(source), target, print_output=False, print_input=False):
        fail(host, f"{host.name}: {name} could not be uploaded. Try: ssh {host.name} df -h /home")
        return None
    return target


def install(host: Host, source: str, name: str, script: str) -> bool:
    """Run the shell that puts an upload into its place, with the operation's privileges."""
    ok, output = run_quietly(host, script, privileges(host))
    if ok:
        return True
    run_quietly(host, f"rm -f {quote(source)}", {})
    return fail(
        host,
        f"{host.name}: {name} did not arrive whole, nothing was replaced: {output.stderr.strip()}\n"
        f"next: ssh {host.name} df -h /usr/local /var, then run again",
    )
