"""Log lines in the form of K3s (logrus, text, no terminal)."""

import json
import re
import sys
import time

_PLAIN = re.compile(r"[A-Za-z0-9\-._/@^+]+")


class Fatal(Exception):
    """The process must end with ``level=fatal`` and exit code 1."""


def line(level: str, message: str, now: float | None = None) -> str:
    """One log line, without the newline; ``now`` is Unix time in seconds."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    text = message if _PLAIN.fullmatch(message) else json.dumps(message, ensure_ascii=False)
    return f'time="{stamp}" level={level} msg={text}'


def _emit(level: str, message: str) -> None:
    print(line(level, message), file=sys.stderr, flush=True)


def info(message: str) -> None:
    _emit("info", message)


def warning(message: str) -> None:
    _emit("warning", message)


def error(message: str) -> None:
    _emit("error", message)


def fatal(message: str) -> None:
    _emit("fatal", message)


def klog_error(source: str, message: str) -> None:
    """A line as the embedded Kubernetes components write it (klog), e.g. for the kubelet's own refusals."""
    stamp = time.strftime("%m%d %H:%M:%S", time.gmtime())
    print(f"E{stamp}.000000       1 {source}] {message}", file=sys.stderr, flush=True)
