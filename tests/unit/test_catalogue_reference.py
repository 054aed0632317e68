"""docs/reference/catalogue.md says what the catalogue says."""

from __future__ import annotations

from pathlib import Path

import pytest
from platform_samples import pods, release

from piclusterops.catalogue import catalogue
from piclusterops.catalogue_reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "catalogue.md"


def row(**changes: object) -> list[str]:
    """The cells of one release's row, and its note as the last."""
    page = reference({"sql": release("sql", **changes)})
    cells = next(line for line in page.splitlines() if line.startswith("| `sql`")).strip("| ").split(" | ")
    return [*cells, next(line for line in page.splitlines() if line.startswith("- `sql`"))]


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "write it anew: make docs"


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_release_has_a_row_and_a_note(name: str) -> None:
    page = reference()
    assert page.count(f"\n| `{name}` |") >= 1 and page.count(f"\n- `{name}`: ") == 1


def test_a_row_has_what_decides_about_a_release() -> None:
    cells = row(
        place={"role": "data_node", "index": 1},
        pods=[pods(100), pods(20, on="role"), pods(5, on="every", limit=0)],
        secrets=[{"name": "a", "keys": {"k": {"kind": "given", "why": "x"}}}, {"name": "b", "keys": {}}],
        backup={"volumes": ["data"], "databases": ["app"], "buckets": ["lake"]},
        interface={"address": "trino", "host": "trino", "port": 8443},
        licence={"spdx": "MPL-2.0", "source": "LICENSE"},
        maintenance={"maintained": False, "note": "archived"},
        page_16k=False,
        note="Good to know.",
    )
    assert cells[1:-1] == [
        "1.2.3 (4.5)",
        "named, clean",
        "data-platform (internal)",
        "second data_node",
        "100/200, 20/40 on each of the role, 5/none on every node",
        "MPL-2.0, weak copyleft",
        "**no**",
        "volume data, database app, bucket lake",
        "`trino`, https://trino.DOMAIN:8443",
        "`a`*, `b`",
    ]
    assert "Does not run on memory pages of 16 KiB. Not maintained: archived." in cells[-1]
    assert cells[-1].endswith("Good to know.")


def test_a_cell_breaks_no_table() -> None:
    assert "|" not in row(licence={"spdx": "a|b", "source": "LICENSE"})[6]


def test_contracts_name_who_fulfils_and_who_needs_them() -> None:
    store = release("store", provides={"objects": {"url": "http://store:9000"}})
    page = reference({"store": store, "sql": release("sql", depends_on=["objects"])})
    section = page.partition("### objects\n")[2]
    assert "| `store` | named, clean | Apache-2.0, permissive | url `http://store:9000` |" in section
    assert "Used by sql." in section
