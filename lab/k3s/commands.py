"""The commands besides server, agent and kubectl."""

import sys

from .log import Fatal


def run(command: str, arguments: list[str]) -> int:
    """Exit code. Raises Fatal."""
    raise Fatal(f'No help topic for "{command}"')


def out(text: str) -> None:
    sys.stdout.write(text + "\n")
