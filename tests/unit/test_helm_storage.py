"""Helm's record of a release: its volume claims are kept when the release is removed."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
import yaml

from piclusterops.helm_storage import keep_claims

CLAIM = "# Source: demo/templates/all.yaml\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n"
KEPT = CLAIM.replace("{name: data}", '{name: kept, annotations: {helm.sh/resource-policy: keep, mine: "1"}}')
NOTED = CLAIM.replace("{name: data}", "{name: noted, annotations: {mine: x}}")
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {text: PersistentVolumeClaim}\n"


def record(*documents: str) -> str:
    release = {"name": "web", "manifest": "".join(f"---\n{document}" for document in documents), "version": 1}
    return base64.b64encode(gzip.compress(json.dumps(release).encode())).decode()


def opened(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(text)))
    return found


def test_every_claim_is_marked_and_nothing_else_changes() -> None:
    before = record(OTHER, CLAIM, KEPT, NOTED)
    after, marked = keep_claims(before)
    assert marked == ["data", "noted"]
    was = list(yaml.safe_load_all(opened(before)["manifest"]))
    now = list(filter(None, yaml.safe_load_all(opened(after)["manifest"])))
    assert [item["metadata"]["name"] for item in now] == [item["metadata"]["name"] for item in was if item]
    for item in now:
        notes = item["metadata"].get("annotations", {})
        assert (notes.get("helm.sh/resource-policy") == "keep") == (item["kind"] == "PersistentVolumeClaim")
    assert now[3]["metadata"]["annotations"]["mine"] == "x"
    assert {**opened(before), "manifest": ""} == {**opened(after), "manifest": ""}


def test_a_release_without_claims_stays_as_it_is() -> None:
    before = record(OTHER, KEPT)
    assert keep_claims(before) == (before, [])


@pytest.mark.parametrize("text", ["", "no base64", base64.b64encode(b"no gzip").decode()])
def test_what_is_no_record_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no record of a release"):
        keep_claims(text)
