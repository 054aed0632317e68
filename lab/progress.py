"""Long steps that can be watched."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from piclusterops.lab.state import LabError

console = Console(stderr=True, highlight=False)
#: Seconds between two lines about the same step where the output is no terminal.
HEARTBEAT = 15.0


def say(message: str) -> None:
    """Tell the user what happens next."""
    console.print(message, markup=False, soft_wrap=True)


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """A step with its title, what it is at (by calling the value yielded) and, at the end, its seconds."""
    start = last = time.monotonic()
    with console.status(Text(title)) as status:
        if not console.is_terminal:
            say(f"{title} ...")

        def at(detail: str) -> None:
            nonlocal last
            seconds = time.monotonic() - start
            line = detail.strip()
            status.update(Text(f"{title}: {seconds:.0f} s: {line}", overflow="ellipsis", no_wrap=True))
            if not console.is_terminal and time.monotonic() - last > HEARTBEAT:
                last = time.monotonic()
                say(f"  {seconds:.0f} s: {line[:100]}")

        yield at
    say(f"{title}: {time.monotonic() - start:.1f} s")


def follow(title: str, lines: Iterable[str], log: Path) -> list[str]:
    """Show `lines` as they come as the state of a step, keep them in `log`; returns the last 25."""
    tail: deque[str] = deque(maxlen=25)
    log.parent.mkdir(parents=True, exist_ok=True)
    with step(title) as at, log.open("w") as handle:
        for line in lines:
            handle.write(line.rstrip("\n") + "\n")
            if line.strip():
                tail.append(line.rstrip())
                at(line)
    return list(tail)


def run(title: str, argv: Sequence[str | Path], log: Path, **options: object) -> None:
    """Run a long command, its output shown as progress and kept in `log`.

    Raises:
        LabError: if the command fails or is not there; has the end of its output.
    """
    command = [str(word) for word in argv]
    try:
        process = subprocess.Popen(  # type: ignore[call-overload]
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            **options,
        )
    except FileNotFoundError as error:
        raise LabError(f"{title}: {command[0]} is not installed; apt-get install {command[0]}") from error
    with process:
        try:
            tail = follow(title, process.stdout, log)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise LabError(
            "\n".join([f"{title}: `{command[0]}` ended with {process.returncode}", *tail, f"whole log: {log}"])
        )
