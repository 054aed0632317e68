"""Helm and kubectl on the controller, for the tests that need them; see `piclusterops.lab.tools`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from piclusterops.lab import tools
from piclusterops.lab.state import LabError


def helm() -> Path:
    """Helm 4; the test is skipped, with the reason, where it cannot be had."""
    return _program("helm")


def kubectl() -> Path:
    """kubectl 1.34 or newer; the test is skipped, with the reason, where it cannot be had."""
    return _program("kubectl")


def _program(name: tools.Program) -> Path:
    found = _found(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def _found(name: tools.Program) -> Path | str:
    """The program, or why there is none; asked once, since an answer of a registry out of reach takes time."""
    try:
        return tools.program(name)
    except LabError as error:
        return str(error)
