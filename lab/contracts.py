"""JSON schemas of charts' values, from contracts: lists of the value paths that a chart knows.

A contract is a JSON file with ``keys``, the paths of the chart's own values.yaml (``server.jvm.maxHeapSize``,
``tolerations[0].key``, ``nodeSelector."kubernetes.io/os"``), and ``template_only_keys``, those that only its templates
read. A schema made from it refuses what the chart would silently ignore: a key that is misspelt or at the wrong place.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "PICLUSTEROPS_CHART_CONTRACTS"
_SEGMENT = re.compile(r'"(?P<quoted>[^"]*)"|\[(?P<index>\d+)\]|(?P<plain>[^."\[\]]+)')
#: Keys whose content charts pass on as it is, though some of it is there by default: parts of Kubernetes' objects,
#: Trino's catalogs, Grafana's configuration, and the custom resources of Elastic's operator.
FREE = re.compile(
    r"(?i)(.*affinity|.*annotations|.*labels|.*resources|.*securityContext|.*probe|.*strategy|nodeSelector|catalogs"
    r"|grafana\.ini|eck-.*)"
)


@dataclass
class _Node:
    """A path of a contract, and what is known below it."""

    children: dict[str, _Node] = field(default_factory=dict)
    is_list: bool = False
    #: names that need quotes: such maps (labels, files) hold what the user wants
    quoted: set[str] = field(default_factory=set)


def folder() -> Path | None:
    """Where contracts are, if ``$PICLUSTEROPS_CHART_CONTRACTS`` says so."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else None


def contracts(where: Path) -> dict[str, dict[str, Any]]:
    """The contracts in a folder by the name that the chart has in its repository."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(where.glob("*.json"))]
    return {str(contract.get("name_in_repo") or contract["chart"]): contract for contract in found}


def schema(contract: dict[str, Any], others: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The JSON schema (draft 7) of a chart's values.

    Maps that have keys by default allow these and what the templates read; a key whose default is empty, a scalar or
    a list allows anything, because nothing is known about it.

    Args:
        contract: the chart's.
        others: all contracts by chart, for those that it depends on.
    """
    root = _Node()
    for path in contract["keys"]:
        _add(root, path)
    known = _schema(root)
    for path in contract.get("template_only_keys") or []:
        _allow(known, path)
    for chart in contract.get("dependencies") or []:
        for path in others.get(chart["name"], {}).get("template_only_keys") or []:
            _allow(known, f"{chart['name']}.{path}")
    return {"$schema": "http://json-schema.org/draft-07/schema#", **known}


def _add(node: _Node, path: str) -> None:
    for segment in _SEGMENT.finditer(path):
        if segment["index"] is not None:
            node.is_list = True
            return
        name = segment["quoted"] or segment["plain"]
        if segment["quoted"]:
            node.quoted.add(name)
        node = node.children.setdefault(name, _Node())


def _schema(node: _Node) -> dict[str, Any]:
    if node.is_list or not node.children or node.quoted == set(node.children):
        return {}
    properties = {name: {} if FREE.fullmatch(name) else _schema(child) for name, child in node.children.items()}
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _allow(known: dict[str, Any], path: str) -> None:
    """Let a schema allow one more path, and anything below it."""
    for segment in _SEGMENT.finditer(path):
        if "properties" not in known:
            return
        known = known["properties"].setdefault(segment["quoted"] or segment["plain"], {})
