"""Show the findings of the checks in a run of pyinfra, once for all hosts."""

from __future__ import annotations

import sys
from weakref import WeakKeyDictionary

from gevent.lock import BoundedSemaphore
from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import State
from rich.console import Console

from piclusterops.check import Result
from piclusterops.check_report import show
from piclusterops.survey import check_connected

_one_at_a_time = BoundedSemaphore(1)
_results: WeakKeyDictionary[State, Result] = WeakKeyDictionary()


class CheckError(PyinfraError):
    """The checks found errors, which are in the table."""


def report_findings(state: State) -> None:
    """Print the findings about all hosts; to be called from a deploy file.

    The deploy file runs once per host at the same time: the first call asks all hosts and prints.

    Raises:
        CheckError: there are errors, so that pyinfra ends with exit code 1.
    """
    with _one_at_a_time:
        if state not in _results:
            _results[state] = check_connected(state, "pyinfra -y INVENTORY deploys/site.py")
            show(_results[state], Console(file=sys.stderr))
    result = _results[state]
    if result.has_errors:
        raise CheckError(f"Nothing was changed on any host. {result.summary}")
    logger.debug(result.summary)
