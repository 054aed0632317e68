"""The lock file: first use decides, a difference stops, nothing is invented."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from k3s_samples import cluster

from piclusterops import lock
from piclusterops.artefacts import RELEASES
from piclusterops.lock import LockEntry, LockError

VERSION = "v1.36.5+k3s1"
A, B = (sha256(text).hexdigest() for text in (b"a", b"b"))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror" / VERSION
    folder.mkdir(parents=True)
    (folder / "sha256sum-arm64.txt").write_text(f"{A}  k3s-arm64\n{B}  k3s-airgap-images-arm64.tar.zst\n")
    (folder / "sha256sum-amd64.txt").write_text(f"{B}  k3s\n{A}  k3s-airgap-images-amd64.tar.gz\n")
    return folder.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "inventories" / "prod.lock"


def entry(digest: str, file: str = "k3s-arm64") -> LockEntry:
    return LockEntry(version=VERSION, file=file, sha256=digest, source="sums", how="first use")


def test_every_architecture_of_the_mirror_is_resolved(mirror: Path) -> None:
    found = {(e.file, e.sha256, e.how) for e in lock.resolve(str(mirror), VERSION)}
    assert found == {
        ("k3s-arm64", A, "lock command"),
        ("k3s-airgap-images-arm64.tar.zst", B, "lock command"),
        ("k3s", B, "lock command"),
    }


def test_one_architecture_is_enough(mirror: Path) -> None:
    (mirror / VERSION / "sha256sum-amd64.txt").unlink()
    assert {e.file for e in lock.resolve(str(mirror), VERSION)} == {"k3s-arm64", "k3s-airgap-images-arm64.tar.zst"}


def test_a_version_without_checksum_files_cannot_be_resolved(mirror: Path) -> None:
    with pytest.raises(LockError, match=r"v1\.0\.0"):
        lock.resolve(str(mirror), "v1.0.0+k3s1")


def test_entries_survive_the_file(path: Path) -> None:
    assert lock.write(path, [entry(A)]) == [entry(A)]
    assert lock.read(path) == {(VERSION, "k3s-arm64"): entry(A)}
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in path.parent.iterdir()] == ["prod.lock"]


def test_the_file_is_readable_text(path: Path) -> None:
    lock.write(path, [entry(A)])
    assert path.read_text().startswith("# Digests")
    assert yaml.safe_load(path.read_text())["artefacts"][0]["sha256"] == A


def test_known_entries_stay_as_they_are(path: Path) -> None:
    lock.write(path, [entry(A)])
    before = path.read_text(), path.stat().st_mtime_ns
    assert lock.write(path, [entry(A).model_copy(update={"how": "lock command", "source": "elsewhere"})]) == []
    assert (path.read_text(), path.stat().st_mtime_ns) == before


def test_a_difference_stops_and_names_file_digests_lock_and_next_step(path: Path) -> None:
    lock.write(path, [entry(A)])
    with pytest.raises(LockError) as error:
        lock.write(path, [entry(B, "other"), entry(B)])
    for part in ("k3s-arm64", A, B, str(path), "picluster lock"):
        assert part in str(error.value)
    assert set(lock.read(path)) == {(VERSION, "k3s-arm64")}


def test_the_lock_file_decides_without_a_look_at_the_mirror(path: Path) -> None:
    lock.write(path, [entry(A)])
    assert lock.expected("/nowhere", VERSION, RELEASES["aarch64"], "k3s-arm64", path) == entry(A)


def test_the_checksum_file_decides_when_there_is_no_entry(mirror: Path, path: Path) -> None:
    found = lock.expected(str(mirror), VERSION, RELEASES["aarch64"], "k3s-arm64", path)
    assert (found.sha256, found.how) == (A, "first use")
    assert found.source == f"{mirror}/{VERSION}/sha256sum-arm64.txt"
    assert not path.exists()


def test_without_any_digest_nothing_can_be_installed(mirror: Path, path: Path) -> None:
    with pytest.raises(LockError, match="without a digest nothing is installed"):
        lock.expected(str(mirror), VERSION, RELEASES["x86_64"], "k3s-airgap-images-amd64.tar.zst", path)


@pytest.mark.parametrize("text", ["artefacts: 1", "[", "other: []", "artefacts: [{version: x}]"])
def test_a_damaged_lock_file_is_not_overwritten(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(LockError, match="is not a lock file"):
        lock.write(path, [entry(A)])
    assert path.read_text() == text


def test_settings_must_name_a_lock_file() -> None:
    with pytest.raises(LockError, match="lock_file is not set"):
        lock.lock_path(cluster().settings)
    assert lock.lock_path(cluster(lock_file="a.lock").settings) == Path("a.lock")


_WRITER = """
import sys
from pathlib import Path
from piclusterops.lock import LockEntry, write
for number in range(15):
    file = f"{sys.argv[2]}-{number}"
    write(Path(sys.argv[1]), [LockEntry(version="v", file=file, sha256="0" * 64, source="s", how="first use")])
"""


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name]) for name in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(lock.read(path)) == 45


_GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from pathlib import Path
from piclusterops.lock import LockEntry, write
def one(name):
    write(Path(sys.argv[1]), [LockEntry(version="v", file=name, sha256="0" * 64, source="s", how="first use")])
gevent.joinall([gevent.spawn(one, str(number)) for number in range(5)], raise_error=True)
"""


def test_hosts_of_one_run_do_not_wait_for_each_other_for_ever(path: Path) -> None:
    # gevent closes a directory later than asked: a lock that lives until then would block all greenlets.
    subprocess.run([sys.executable, "-c", _GREENLETS, str(path)], check=True, timeout=30)
    assert len(lock.read(path)) == 5
