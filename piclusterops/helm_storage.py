"""Helm's record of a release: marking its volume claims as kept, so that removing the release leaves them. Pure.

A record is JSON in gzip in base64 (Helm's source, pkg/storage/driver/util.go). Objects of its manifest with the
annotation ``helm.sh/resource-policy: keep`` stay when the release is removed, and a release of the same name that is
installed later takes them over again.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import yaml

POLICY = "helm.sh/resource-policy"
_SEPARATOR = "\n---\n"


def keep_claims(record: str) -> tuple[str, list[str]]:
    """A record whose manifest keeps all volume claims, and the names of those it did not keep before.

    Raises:
        ValueError: it is no record of a release.
    """
    try:
        release = json.loads(gzip.decompress(base64.b64decode(record, validate=True)))
        manifest = release["manifest"]
        parts = list(_parts(manifest))
    except (ValueError, OSError, EOFError, zlib.error, KeyError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"it is no record of a release: {error}") from error
    marked = [name for _, name in parts if name]
    if not marked:
        return record, []
    release["manifest"] = _SEPARATOR.join(text for text, _ in parts)
    packed = gzip.compress(json.dumps(release, separators=(",", ":")).encode(), mtime=0)
    return base64.b64encode(packed).decode(), marked


def _parts(manifest: str) -> Iterator[tuple[str, str]]:
    """Each document of a manifest, and the name of the claim in it that was not kept before."""
    for text in f"\n{manifest}".replace("\n---\r\n", _SEPARATOR).split(_SEPARATOR):
        item: Any = yaml.safe_load(text) if "PersistentVolumeClaim" in text else None
        if not isinstance(item, dict) or item.get("kind") != "PersistentVolumeClaim":
            yield text.strip("\n"), ""
            continue
        notes = item["metadata"].setdefault("annotations", None) or {}
        if notes.get(POLICY) == "keep":
            yield text.strip("\n"), ""
            continue
        item["metadata"]["annotations"] = {**notes, POLICY: "keep"}
        yield yaml.safe_dump(item, sort_keys=False).strip("\n"), str(item["metadata"]["name"])
