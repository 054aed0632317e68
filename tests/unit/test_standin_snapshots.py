"""Snapshots, manifests, tables and the log form of the stand-in k3s."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest

from piclusterops.lab.k3s import commands, log, snapshots
from piclusterops.lab.k3s.controllers import due_manifests
from piclusterops.lab.k3s.log import Fatal


def files(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).write_text(name)
        os.utime(folder / name, (number, number))


def test_prune_keeps_the_newest_of_this_name_and_node_only(tmp_path: Path) -> None:
    mine = [f"x-n1-170000000{i}" for i in range(4)]
    files(tmp_path, *mine, "x-n2-1700000009", "y-n1-1700000009")
    assert [f.name for f in snapshots.prune(tmp_path, "x-n1-", 2)] == mine[:2]
    assert {f.name for f in snapshots.find(tmp_path)} == {*mine[2:], "x-n2-1700000009", "y-n1-1700000009"}


def test_parts_of_a_running_save_are_no_snapshots(tmp_path: Path) -> None:
    files(tmp_path, ".x-n1-1700000000.part", "x-n1-1700000001")
    assert [f.name for f in snapshots.find(tmp_path)] == ["x-n1-1700000001"]
    assert snapshots.find(tmp_path / "none") == []


def test_a_compressed_snapshot_unpacks_to_the_plain_one(tmp_path: Path) -> None:
    packed = tmp_path / "x-n1-1700000000.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x-n1-1700000000", b"data")
    assert snapshots.unpacked(packed, tmp_path).read_bytes() == b"data"
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(Fatal, match="failed to decompress"):
        snapshots.unpacked(tmp_path / "bad.zip", tmp_path)


@pytest.mark.parametrize(
    ("expression", "moment", "due"),
    [
        ("0 */12 * * *", "2026-11-23 12:00", True),
        ("0 */12 * * *", "2026-11-23 13:00", False),
        ("*/5 * * * *", "2026-11-23 13:25", True),
        ("30 3 1,15 * *", "2026-11-15 03:30", True),
        ("0 0 * * 0", "2026-11-22 00:00", True),
        ("0 0 * * 7", "2026-11-22 00:00", True),
        ("0 0 * * 1-5", "2026-11-22 00:00", False),
        ("0 0 13 * 5", "2026-11-27 00:00", True),
    ],
)
def test_cron_expressions(expression: str, moment: str, due: bool) -> None:
    assert snapshots.cron_due(expression, time.strptime(moment, "%Y-%m-%d %H:%M")) is due


@pytest.mark.parametrize("expression", ["* * * *", "61 * * * *", "a * * * *", "*/0 * * * *"])
def test_what_is_no_cron_expression(expression: str) -> None:
    with pytest.raises(Fatal, match="invalid etcd-snapshot-schedule-cron"):
        snapshots.cron_due(expression, time.localtime())


def test_manifests_are_due_once_and_again_after_a_change(tmp_path: Path) -> None:
    seen: dict[Path, tuple[int, int]] = {}
    files(tmp_path, "a.yaml", "b.yaml", "b.yaml.skip", "notes.txt")
    assert [f.name for f in due_manifests(tmp_path, seen)] == ["a.yaml"]
    assert due_manifests(tmp_path, seen) == []
    (tmp_path / "a.yaml").write_text("changed")
    (tmp_path / "b.yaml.skip").unlink()
    assert [f.name for f in due_manifests(tmp_path, seen)] == ["a.yaml", "b.yaml"]


def test_tables_pad_every_column_but_the_last() -> None:
    assert commands.table([["A", "B"], ["long", "x"]], 2) == "A     B\nlong  x"


def test_log_lines_have_k3s_form() -> None:
    assert log.line("fatal", 'say "no"', 0) == 'time="1970-01-01T00:00:00Z" level=fatal msg="say \\"no\\""'
    assert log.line("info", "ready", 0) == 'time="1970-01-01T00:00:00Z" level=info msg=ready'


def test_encryption_status_tells_whether_there_is_a_key(tmp_path: Path) -> None:
    file = tmp_path / "encryption-config.json"
    assert commands.encryption_status(file) == "Encryption Status: Disabled, no configuration file found"
    file.write_text('{"resources":[{"providers":[{"aescbc":{"keys":[{"name":"aescbckey"}]}},{"identity":{}}]}]}')
    assert "Encryption Status: Enabled" in commands.encryption_status(file)
    assert "AES-CBC" in commands.encryption_status(file)
