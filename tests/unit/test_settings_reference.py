"""docs/reference/settings.md says what the models say."""

from __future__ import annotations

from pathlib import Path

import pytest

from piclusterops.settings import ClusterSettings, NodeSettings
from piclusterops.settings_reference import reference
from piclusterops.validation import CLUSTER_KEYS, EXAMPLES, NODE_KEYS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB operator"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "write it anew: make docs"


@pytest.mark.parametrize("key", [*CLUSTER_KEYS, *NODE_KEYS])
def test_every_setting_has_an_entry(key: str) -> None:
    entry = reference().partition(f"\n### {key}\n")[2].partition("\n### ")[0]
    assert "- Type: " in entry
    assert "- Default: " in entry
    assert f"- Example: `{key} = " in entry


@pytest.mark.parametrize("key", sorted(EXAMPLES))
def test_examples_are_valid_and_of_settings_that_exist(key: str) -> None:
    example = EXAMPLES[key]
    if key == "admin_users":
        example = [{**example[0], "ssh_keys": [KEY]}]
    if key in CLUSTER_KEYS:
        assert getattr(ClusterSettings.model_validate({"lan_cidr": "192.168.0.0/24", key: example}), key)
    else:
        assert getattr(NodeSettings.model_validate({"address": "192.168.0.121", key: example}), key)
