"""Remember facts on a host until an operation changes that host.

pyinfra 3 asks the host for a fact every time. Here an answer is kept for a minute and dropped as soon as
an operation changed that host, so that the operations of a role share one round trip in a run that
changes nothing. The parts of pyinfra used here (``callback_handlers``, ``state.ops``,
``host.connector_data``) are not a stable interface: they are used in this module only.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar, cast

from pyinfra import host, state
from pyinfra.api import FactBase
from pyinfra.api.host import Host
from pyinfra.api.state import BaseStateCallback, State

T = TypeVar("T")

_KEY = "piclusterops_facts"
_LAST_OP = "piclusterops_last_operation"
_MAX_AGE_S = 60.0


def cached_fact(fact: type[FactBase[T]], **kwargs: Any) -> T:
    """``host.get_fact`` that asks the host again only after a change or a minute."""
    store: dict[Any, tuple[float, Any]] = host.connector_data.setdefault(_KEY, {})
    key = (fact, repr(sorted(kwargs.items())))
    found = store.get(key)
    if found and time.monotonic() - found[0] < _MAX_AGE_S:
        return cast(T, found[1])
    value = host.get_fact(fact, **kwargs)
    store[key] = (time.monotonic(), value)
    return value


def forget(target: Host) -> None:
    """Drop what is remembered of a host, for operations that change it while they run."""
    target.connector_data.pop(_KEY, None)


class DropFactsAfterChange(BaseStateCallback):
    """Forget a host's facts as the operation after a changing one starts."""

    @staticmethod
    def operation_host_start(state: State, host: Host, op_hash: str) -> None:
        last = host.connector_data.get(_LAST_OP)
        host.connector_data[_LAST_OP] = op_hash
        if last and last in state.ops[host]:
            meta = state.ops[host][last].operation_meta
            if not meta.is_complete() or meta.did_change() or not meta.did_succeed():
                forget(host)


def install() -> None:
    """Register the callback, once a run; to be called from a deploy file."""
    if not any(isinstance(handler, DropFactsAfterChange) for handler in state.callback_handlers):
        state.add_callback_handler(DropFactsAfterChange())
