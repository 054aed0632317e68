"""The platform's Grafana dashboards: from short descriptions to the JSON that Grafana reads.

A dashboard is described in ``files/charts/platform-config/dashboards/<name>.yaml``; the JSON beside it is what the
chart ships. ``python -m piclusterops.grafana_dashboards`` writes it anew, and a test holds one against the other. Only
what Grafana does not fill in by itself is written, see "JSON model" in its documentation.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

#: Version of the JSON model; newer Grafanas migrate it when they load it.
SCHEMA_VERSION = 39
#: Columns of Grafana's grid, and how high a row of panels is by default.
COLUMNS = 24
HEIGHT = 8


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Query(_Model):
    """A query of a panel."""

    expr: str = Field(description="PromQL.")
    legend: str = Field("", description="Name of a series, with `{{label}}`; all labels when it is empty.")


class Panel(_Model):
    """A panel of a dashboard."""

    title: str
    type: Literal["timeseries", "stat", "bargauge", "table"] = "timeseries"
    queries: tuple[Query, ...] = Field(min_length=1)
    unit: str = Field("short", description="Unit, as Grafana calls it: bytes, percentunit, celsius, s, ...")
    width: int = Field(12, ge=3, le=COLUMNS)
    height: int = Field(HEIGHT, ge=3)
    minimum: float | None = None
    maximum: float | None = None
    color: str = Field("green", description="Colour below the first threshold.")
    thresholds: tuple[tuple[float, str], ...] = Field((), description="From which value on it has which colour.")
    stacked: bool = False
    description: str = ""


class Variable(_Model):
    """A choice at the top of a dashboard, all by default."""

    name: str
    label: str
    query: str = Field(description="`label_values(metric, label)`.")


class Row(_Model):
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


class Dashboard(_Model):
    """A dashboard."""

    uid: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="Its name in links.")
    title: str
    description: str
    variables: tuple[Variable, ...] = ()
    rows: tuple[Row, ...]


def folder() -> Path:
    """Where descriptions and JSON are."""
    return Path(str(files("piclusterops.files").joinpath("charts"))) / "platform-config" / "dashboards"


def read(path: Path) -> Dashboard:
    """The description in a file.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return Dashboard.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def rendered(dashboard: Dashboard) -> str:
    """The JSON of a dashboard; the same description gives the same bytes."""
    model = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["piclusterops"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [_datasource(), *(_variable(variable) for variable in dashboard.variables)]},
        "panels": _panels(dashboard.rows),
    }
    return json.dumps(model, indent=1, ensure_ascii=False) + "\n"


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _datasource() -> dict[str, Any]:
    current = {"text": "Prometheus", "value": "prometheus"}
    return {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus", "current": current}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Rows and panels, laid out from left to right and from top to bottom."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        panels.append({"id": len(panels) + 1, **heading, "gridPos": _place(0, y, COLUMNS, 1)})
        y, x, height = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                y, x, height = y + height, 0, 0
            place = _place(x, y, panel.width, panel.height)
            panels.append({"id": len(panels) + 1, **_panel(panel), "gridPos": place})
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return panels


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    model: dict[str, Any] = {"type": panel.type, "title": panel.title, "datasource": _SOURCE}
    if panel.description:
        model["description"] = panel.description
    now = panel.type != "timeseries"
    model["targets"] = [_target(number, query, now) for number, query in enumerate(panel.queries)]
    model["fieldConfig"] = {"defaults": _field(panel), "overrides": []}
    model["options"] = _options(panel)
    if panel.type == "table":
        hidden = {"Time": True, "__name__": True}
        model["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return model


def _target(number: int, query: Query, now: bool) -> dict[str, Any]:
    target: dict[str, Any] = {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": query.expr}
    if query.legend:
        target["legendFormat"] = query.legend
    return {**target, "instant": True, "format": "table" if not query.legend else "time_series"} if now else target


def _field(panel: Panel) -> dict[str, Any]:
    field: dict[str, Any] = {"unit": panel.unit}
    if panel.minimum is not None:
        field["min"] = panel.minimum
    if panel.maximum is not None:
        field["max"] = panel.maximum
    steps: list[dict[str, Any]] = [{"color": panel.color, "value": None}]
    steps += [{"color": color, "value": value} for value, color in panel.thresholds]
    field["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel.type == "timeseries":
        custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never"}
        if panel.stacked:
            custom |= {"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}}
        if panel.thresholds:
            custom["thresholdsStyle"] = {"mode": "line"}
        field["custom"] = custom
    else:
        field["color"] = {"mode": "thresholds"}
    return field


def _options(panel: Panel) -> dict[str, Any]:
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.type == "timeseries":
        legend = {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.type == "stat":
        return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "none"}
    if panel.type == "bargauge":
        return {"reduceOptions": reduced, "orientation": "horizontal", "displayMode": "basic"}
    return {"showHeader": True}


def main() -> None:
    """Write the JSON of all dashboards."""
    for path in sorted(folder().glob("*.yaml")):
        path.with_suffix(".json").write_text(rendered(read(path)), encoding="utf-8")


if __name__ == "__main__":
    main()
