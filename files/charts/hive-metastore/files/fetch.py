"""Fetches a file and puts it in its place if it has the SHA-256 it should: fetch.py URL SHA256 PATH.

Only the standard library, so that any image with Python runs it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import urllib.request
from pathlib import Path

ATTEMPTS = 5
TIMEOUT_S = 60


def fetch(url: str, sha256: str, path: Path) -> None:
    """Put the file into its place.

    Raises:
        OSError: it can't be fetched.
        ValueError: it is another one.
    """
    part = path.with_suffix(".part")
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, part.open("wb") as file:
        while block := answer.read(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != sha256:
        part.unlink()
        raise ValueError(f"{url} has the SHA-256 {digest.hexdigest()} instead of {sha256}")
    part.replace(path)


def main() -> int:
    """Try a few times: when a node starts, its network may not be there yet."""
    url, sha256, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    pause_s = float(os.environ.get("PAUSE_S", "5"))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            fetch(url, sha256, path)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        except OSError as error:
            print(f"{url}: {error} (attempt {attempt} of {ATTEMPTS})", file=sys.stderr, flush=True)
            if attempt < ATTEMPTS:
                time.sleep(pause_s)
        else:
            print(f"{path}: {path.stat().st_size} bytes, as they should be")
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
