"""Marks of values: equal values are recognised, and secret ones can't be read from them."""

from __future__ import annotations

import re
import time

from piclusterops.value_digest import digest_of, is_mark_of, mark_of

LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
SECRET = {"password": "hunter2", "user": "admin"}


def test_a_digest_does_not_depend_on_the_order() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1, "b": [1, 2]}) != digest_of({"a": 1, "b": [2, 1]})


def test_a_mark_is_of_its_values_only() -> None:
    mark = mark_of(SECRET)
    assert is_mark_of(mark, {"user": "admin", "password": "hunter2"})
    assert not is_mark_of(mark, {**SECRET, "password": "hunter3"})
    assert not is_mark_of(mark, {**SECRET, "more": ""})


def test_two_marks_of_the_same_values_differ() -> None:
    assert mark_of(SECRET) != mark_of(SECRET)


def test_what_is_no_mark_is_no_mark_of_anything() -> None:
    for mark in ("", "unready", "handed-over", ".", "0123456789abcdef.", "é.é"):
        assert not is_mark_of(mark, SECRET)


def test_marks_and_digests_are_label_values() -> None:
    assert LABEL.fullmatch(mark_of(SECRET)) and LABEL.fullmatch(digest_of(SECRET))


def test_guessing_takes_time() -> None:
    mark, started = mark_of(SECRET), time.process_time()
    for number in range(20):
        is_mark_of(mark, {"password": f"guess{number}"})
    # A plain SHA-256 of these takes some 0.1 ms; on a Raspberry Pi all of this takes longer still.
    assert (time.process_time() - started) / 20 > 0.002
