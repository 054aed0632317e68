"""The stand-in's `kubectl exec`: SPDY as a client speaks it, what is noted of a command, and how it ends."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from piclusterops.lab.k3s.kubelet import exec_answer, exec_status, note_exec
from piclusterops.lab.k3s.spdy import DICTIONARY, FIN, PING, RST_STREAM, SYN_REPLY, SYN_STREAM, Streams

CONTROL = 0x8003


class Client:
    """What a client sends; its compressor goes on from header to header, as the protocol wants it."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self.sent = b""

    def control(self, kind: int, body: bytes, flags: int = 0) -> None:
        self.sent += struct.pack(">HHI", CONTROL, kind, flags << 24 | len(body)) + body

    def open(self, number: int, kind: str) -> None:
        texts = [word.encode() for word in ("Streamtype", kind)]
        plain = struct.pack(">I", 1) + b"".join(struct.pack(">I", len(text)) + text for text in texts)
        block = self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self.control(SYN_STREAM, struct.pack(">IIH", number, 0, 0) + block)

    def data(self, number: int, content: bytes, flags: int = 0) -> None:
        self.sent += struct.pack(">II", number, flags << 24 | len(content)) + content


@pytest.fixture
def client() -> Client:
    """One that has opened the streams that kubectl opens."""
    made = Client()
    for number, kind in ((1, "error"), (3, "stdin"), (5, "stdout")):
        made.open(number, kind)
    return made


def read(client: Client) -> tuple[bytes, io.BytesIO, Streams]:
    target = io.BytesIO()
    streams = Streams(io.BytesIO(client.sent), target)
    return streams.read("stdin", lambda opened: opened >= {"error", "stdin", "stdout"}), target, streams


def test_the_dictionary_is_the_protocols() -> None:
    """Streams of zlib name the one that they need by this sum."""
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2 and len(DICTIONARY) == 1423


def test_all_of_standard_input_is_read_and_every_stream_and_ping_answered(client: Client) -> None:
    client.data(3, b"first ")
    client.control(PING, b"\0\0\0\1")
    client.data(3, b"and last\n", FIN)
    content, target, _ = read(client)
    assert content == b"first and last\n"
    answers = target.getvalue()
    kinds = []
    while answers:
        _, kind, size = struct.unpack(">HHI", answers[:8])
        kinds.append(kind)
        answers = answers[8 + size :]
    assert kinds == [SYN_REPLY, SYN_REPLY, SYN_REPLY, PING]


def test_what_is_written_ends_its_stream(client: Client) -> None:
    client.data(3, b"", FIN)
    _, target, streams = read(client)
    before = len(target.getvalue())
    streams.write("error", b"{}")
    assert target.getvalue()[before:] == struct.pack(">II", 1, FIN << 24 | 2) + b"{}"


def test_a_client_that_goes_away_is_no_end_of_input(client: Client) -> None:
    client.data(3, b"half")
    with pytest.raises(ConnectionError):
        read(client)
    client.control(RST_STREAM, b"\0\0\0\3\0\0\0\5")
    with pytest.raises(ConnectionError):
        read(client)


def test_of_standard_input_a_digest_is_noted_and_no_more(tmp_path: Path) -> None:
    note_exec("monitoring", "grafana-1", "grafana", ["grafana", "cli"], b"canary\n", tmp_path / "lab/execs")
    (line,) = (tmp_path / "lab/execs").read_text().splitlines()
    assert json.loads(line) == {
        "namespace": "monitoring",
        "pod": "grafana-1",
        "container": "grafana",
        "command": ["grafana", "cli"],
        "sha256": sha256(b"canary\n").hexdigest(),
    }


def test_commands_end_as_they_are_told(tmp_path: Path) -> None:
    told = tmp_path / "exec-answer"
    assert exec_answer(told) == 0 and exec_status(0)["status"] == "Success"
    told.write_text("hold\n")
    release = threading.Timer(0.3, lambda: told.write_text("3\n"))
    started = time.monotonic()
    release.start()
    assert exec_answer(told) == 3 and time.monotonic() - started > 0.2
    assert exec_status(3)["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
