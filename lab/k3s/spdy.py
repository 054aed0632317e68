"""As much of SPDY/3.1 as `kubectl exec -i` needs of a kubelet: streams that the other side opens, and what is in them.

Sources: the SPDY Protocol Draft 3.1 (frames, and the dictionary of compressed headers), and Kubernetes' remotecommand
(streams by their header `streamtype`; v4.channel.k8s.io ends with a Status on the stream `error`).
"""

import struct
import zlib
from collections.abc import Callable
from io import BufferedIOBase

_NAMES = (  # noqa: SIM905 - as a list it is a page long
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
).split()
_MORE = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(name)) + name.encode() for name in (*_NAMES, *_MORE)) + _REST.encode()

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
FIN = 1
_CONTROL = 0x8003


class Streams:
    """The streams that the other side opens, by their `streamtype`, on a connection that was upgraded."""

    def __init__(self, source: BufferedIOBase, target: BufferedIOBase) -> None:
        self._source, self._target = source, target
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._ids: dict[str, int] = {}

    def read(self, wanted: str, opened: Callable[[set[str]], bool]) -> bytes:
        """All that comes on one stream until it ends; returns at once for streams that do not include it.

        `opened` says of the streams so far whether they are all that will come.
        """
        content, ended = b"", False
        while not opened(set(self._ids)) or (wanted in self._ids and not ended):
            first, second = struct.unpack(">II", self._exactly(8))
            body = self._exactly(second & 0xFFFFFF)
            flags = second >> 24
            if first >> 16 == _CONTROL:
                self._control(first & 0xFFFF, body)
            elif first == self._ids.get(wanted):
                content += body
                ended = bool(flags & FIN)
        return content

    def write(self, stream: str, content: bytes) -> None:
        """Write to a stream and end it."""
        self._send(struct.pack(">II", self._ids[stream], FIN << 24 | len(content)) + content)

    def _control(self, kind: int, body: bytes) -> None:
        if kind == SYN_STREAM:
            number = struct.unpack(">I", body[:4])[0]
            self._ids[self._headers(body[10:])["streamtype"]] = number
            none = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            self._frame(SYN_REPLY, struct.pack(">I", number) + none)
        elif kind == PING:
            self._frame(PING, body)
        elif kind in (RST_STREAM, GOAWAY):
            raise ConnectionError("the other side gave up")

    def _headers(self, block: bytes) -> dict[str, str]:
        plain = self._inflate.decompress(block)
        texts, rest = [], plain[4:]
        while rest:
            length = struct.unpack(">I", rest[:4])[0]
            texts.append(rest[4 : 4 + length].decode())
            rest = rest[4 + length :]
        return dict(zip((name.lower() for name in texts[::2]), texts[1::2], strict=True))

    def _frame(self, kind: int, body: bytes) -> None:
        self._send(struct.pack(">HHI", _CONTROL, kind, len(body)) + body)

    def _send(self, content: bytes) -> None:
        self._target.write(content)
        self._target.flush()

    def _exactly(self, count: int) -> bytes:
        found = self._source.read(count)
        if len(found) < count:
            raise ConnectionError("the connection ended")
        return found
