"""The lab that the tests of whole verbs share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from piclusterops.lab.fleet import Lab, Node

NAME = os.environ.get("PICLUSTEROPS_LAB", "test")
# Hosts and K3s are what most of these tests are about; those of the platform ask for one.
os.environ.setdefault("PICLUSTEROPS_LAB_PLATFORM", "none")


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two bare hosts of a module's own, which may break them: pi-master and pi-worker-1."""
    lab = Lab(request.module.__name__.replace("_", "-"))
    try:
        lab.up([Node("pi-master", "master"), Node("pi-worker-1", "worker")])
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Four hosts, up for the whole session. PICLUSTEROPS_LAB_KEEP=1 leaves them for a look around."""
    os.environ["PICLUSTEROPS_LAB"] = NAME
    lab = Lab(NAME)
    lab.up()
    yield lab
    if not os.environ.get("PICLUSTEROPS_LAB_KEEP"):
        lab.down()
