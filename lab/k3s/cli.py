"""The command line of the stand-in."""

import ctypes
import os
import platform
import signal
import sys
import threading
from pathlib import Path

from . import log
from .baked import VERSION
from .layout import KUBE_BINARIES, KUBECONFIG
from .log import Fatal

HELP = """NAME:
   k3s - Kubernetes, but small and simple (a STAND-IN of the PiClusterOps lab)

USAGE:
   k3s [global options] command [command options] [arguments...]

COMMANDS:
   server           Run management server
   agent            Run node agent
   kubectl          Run kubectl
   crictl           Run crictl (says that no container runs)
   token            Manage tokens: create, delete, generate, list, rotate
   etcd-snapshot    Manage etcd snapshots: save, delete, list, prune
   secrets-encrypt  Show whether secrets are encrypted: status
   certificate      Show the certificates' expiry: check
   check-config     Check the kernel prerequisites
   help, h          Shows this text

WHAT IS REAL: etcd, kube-apiserver, kube-controller-manager and kube-scheduler (Kubernetes 1.20), TLS, tokens, node
   passwords, node registration, snapshots and restores, configuration merging, refusals.
WHAT IS NOT: no container, no image, no network plugin, no kube-proxy, no DNS, no PodSecurity admission; etcd runs
   without fsync; versions shown by the API are those of the K3s release that is stood in for.

GLOBAL OPTIONS:
   --help, -h     show help
   --version, -v  print the version
"""


def version_text() -> str:
    return (
        f"k3s version {VERSION} (stand-in of the PiClusterOps lab: Kubernetes 1.20 API, no container ever runs)\n"
        f"go version none: this is Python {platform.python_version()}\n"
    )


def kubectl(arguments: list[str]) -> int:
    """Replace this process by the real kubectl."""
    program = KUBE_BINARIES / "kubectl"
    if not program.is_file():
        raise Fatal(f"stand-in: {program} is missing; the lab must provide it")
    if not os.environ.get("KUBECONFIG") and KUBECONFIG.exists():
        os.environ["KUBECONFIG"] = str(KUBECONFIG)
    os.environ.setdefault("GOGC", "400")  # so short a run need not collect garbage, which is a fifth of its work
    os.execv(program, ["kubectl", *arguments])


def _run_daemon(mode: str, arguments: list[str]) -> int:
    from . import config
    from .notify import Notifier

    ctypes.CDLL(None).prctl(15, f"k3s-{mode}".encode(), 0, 0, 0)  # PR_SET_NAME, as K3s shows up in ps
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    notifier = Notifier()
    options = config.load(mode, arguments, os.environ)
    if os.geteuid() != 0:
        raise Fatal(f"{mode} must run as root, or with --rootless and/or --disable-agent")
    if mode == "agent":
        from . import agent

        agent.run(options, notifier, stop)
    else:
        from . import server

        if options.on("cluster-reset"):
            from . import reset

            return reset.run(options, stop)
        server.Server(options, notifier, stop).run()
    return 0


def dispatch(program: str, arguments: list[str]) -> int:
    """Exit code. Raises Fatal."""
    if program in ("kubectl", "crictl", "ctr"):
        arguments = [program, *arguments]
    while arguments and arguments[0] in ("--debug",):
        arguments = arguments[1:]
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if command in ("--version", "-v", "version"):
        sys.stdout.write(version_text())
    elif command in ("help", "h", "--help", "-h"):
        sys.stdout.write(HELP)
    elif command == "kubectl":
        return kubectl(rest)
    elif command in ("server", "agent"):
        if any(word in ("--help", "-h") for word in rest):
            from . import flags

            sys.stdout.write(
                f"USAGE:\n   k3s {command} [OPTIONS]\n\nOPTIONS:\n"
                + "".join(f"   --{n}\n" for n in sorted(flags.MODES[command]))
            )
            return 0
        return _run_daemon(command, rest)
    else:
        from . import commands

        return commands.run(command, rest)
    return 0


def main() -> int:
    try:
        return dispatch(Path(sys.argv[0]).name, sys.argv[1:])
    except Fatal as problem:
        log.fatal(f"Error: {problem}")
        return 1
    except OSError as problem:
        log.fatal(f"Error: {problem}")
        return 1
    except KeyboardInterrupt:
        return 130
