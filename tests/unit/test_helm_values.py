"""Values of a release: what changes is shown, what is secret is not."""

from __future__ import annotations

from typing import Any

import pytest

from piclusterops.helm_values import difference, secret_texts, without

OLD = {"image": {"tag": "1.0"}, "replicas": 2, "auth": {"user": "admin", "password": "old-secret"}}


def test_equal_values_have_no_difference() -> None:
    assert difference({"a": {"b": 1}}, {"a": {"b": 1}}, {}) == []
    assert difference(OLD, {"image": {"tag": "1.0"}, "replicas": 2, "auth": {"user": "admin"}},
                      {"auth": {"password": "old-secret"}}) == []  # fmt: skip


def test_a_changed_value_is_shown_on_both_sides() -> None:
    lines = difference({"image": {"tag": "1.0"}, "replicas": 2}, {"image": {"tag": "1.1"}, "replicas": 2}, {})
    assert lines == [" image:", "-  tag: '1.0'", "+  tag: '1.1'", " replicas: 2"]


@pytest.mark.parametrize(
    ("new", "secret"),
    [
        ({"auth": {"user": "admin"}}, {"auth": {"password": "new-secret"}}),
        ({"auth": {"user": "admin", "password": "in-the-plain-values-too"}}, {"auth": {"password": "new-secret"}}),
        ({}, {"auth": "new-secret"}),
        ({}, {"auth": {"password": {"nested": "new-secret"}}}),
        ({}, {"auth": {"password": ["new-secret"]}}),
    ],
)
def test_secret_values_are_hidden_on_both_sides(new: dict[str, Any], secret: dict[str, Any]) -> None:
    text = "\n".join(difference(OLD, new, secret))
    assert "secret" not in text and "plain-values" not in text
    assert "(hidden, changed)" in text


def test_a_secret_value_that_is_dropped_is_hidden() -> None:
    text = "\n".join(difference(OLD, {"image": {"tag": "1.0"}, "replicas": 2}, {}, had_secrets=True))
    assert "old-secret" not in text and "-  password: (hidden)" in text


def test_what_a_secret_holds_is_taken_out_of_texts() -> None:
    secrets = secret_texts({"a": {"b": "s3cr3t\nsecond line"}, "c": ["hunter22", 12345], "d": "abc", "e": True})
    text = without("s3cr3t and second line, hunter22=12345 abc true", secrets)
    assert text == "(hidden) and (hidden), (hidden)=(hidden) abc true"
