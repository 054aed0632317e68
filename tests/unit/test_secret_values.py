"""How values of secrets come to be."""

from __future__ import annotations

import base64
import string
import traceback
from secrets import token_hex

import bcrypt as bcrypt_library
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piclusterops.catalogue import SecretKey
from piclusterops.secret_values import BCRYPT_COST, TemplateFault, bcrypt, generate, references, render, uses_bcrypt


def key(kind: str, length: int = 32) -> SecretKey:
    return SecretKey.model_validate({"kind": kind, "length": length})


@given(st.integers(12, 64))
def test_passwords_have_letters_of_both_cases_and_digits_and_nothing_to_quote(length: int) -> None:
    made = generate(key("password", length))
    assert len(made) == length
    assert set(made) <= set(string.ascii_letters + string.digits)
    assert not made.isalpha() and made.lower() != made != made.upper()


@given(st.integers(12, 64))
def test_hex_is_that_many_bytes(length: int) -> None:
    assert len(bytes.fromhex(generate(key("hex", length)))) == length


@given(st.integers(12, 64))
@settings(max_examples=30)
def test_base64_is_that_many_bytes_in_both_of_its_alphabets(length: int) -> None:
    made = generate(key("base64", length))
    assert len(base64.b64decode(made, validate=True)) == length
    assert not set("+/-_") & set(made)


@pytest.mark.parametrize("kind", ["password", "hex", "base64"])
def test_no_two_values_are_alike(kind: str) -> None:
    assert len({generate(key(kind, 12)) for _ in range(50)}) == 50


def test_what_is_not_random_is_not_generated() -> None:
    with pytest.raises(ValueError, match="static can't be generated"):
        generate(SecretKey(kind="static", value="x"))


TEMPLATE = "{% set user = secret('a', 'user') %}{{ user }}:{{ bcrypt(secret('a', 'b.c')) }}{{ secret('a', 'user') }}"


def test_references_of_a_template_are_found_without_its_values() -> None:
    assert references(TEMPLATE) == (("a", "user"), ("a", "b.c"))
    assert uses_bcrypt(TEMPLATE) and not uses_bcrypt("{{ secret('bcrypt', 'bcrypt') }}")


@pytest.mark.parametrize(
    "template",
    ["{{ secret(name, 'key') }}", "{{ secret('only') }}", "{{ secret('a', key='b') }}", "{{ secret(1, 2) }}"],
)
def test_references_must_be_readable_without_running_the_template(template: str) -> None:
    with pytest.raises(TemplateFault, match="in plain text"):
        references(template)


def test_a_wrong_template_is_said_to_be() -> None:
    with pytest.raises(TemplateFault, match="its template is wrong: unexpected"):
        references("{{ secret('a', 'b' }}")


@pytest.mark.parametrize("template", ["{{ other }}", "{{ secret('a', 'b').nothing.of }}", "{{ 'x' + 1 }}{{ secret }}"])
def test_a_template_that_fails_tells_no_value(template: str) -> None:
    canary = token_hex()
    with pytest.raises(TemplateFault) as caught:
        render(template, lambda secret, key: canary, str)
    assert "its template fails (" in str(caught.value)
    assert canary not in "".join(traceback.format_exception(caught.value))


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=18), st.text(max_size=5))
@settings(max_examples=20, deadline=None)
def test_a_hash_is_bcrypts_and_stays_the_same(password: str, salt_key: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("piclusterops.secret_values.BCRYPT_COST", 4)
        made = bcrypt(password, salt_key, "a/b")
        assert made == bcrypt(password, salt_key, "a/b")
    assert made.startswith("$2y$04$") and len(made) == 60
    assert bcrypt_library.checkpw(password.encode(), made.encode())


def test_a_hash_costs_what_trino_asks_for() -> None:
    assert bcrypt("password", "key", "a/b").startswith("$2y$10$") and BCRYPT_COST >= 8


def test_the_salt_differs_by_key_password_and_purpose() -> None:
    made = [
        bcrypt(*words) for words in (("p", "k", "a/b"), ("p", "k", "a/c"), ("q", "k", "a/b"), ("p", "other", "a/b"))
    ]
    assert len({text[7:29] for text in made}) == 4


def test_bcrypt_would_cut_a_long_password_off_and_does_not() -> None:
    canary = token_hex(37)
    with pytest.raises(TemplateFault, match="at most 72 bytes") as caught:
        bcrypt(canary, "k", "p")
    assert canary not in "".join(traceback.format_exception(caught.value))
