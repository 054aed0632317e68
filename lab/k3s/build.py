"""Pack the stand-in into one executable file (a Python zip application)."""

import zipfile
from pathlib import Path

PACKAGE = "k3s_standin"
_MAIN = f"""import sys
from {PACKAGE}.cli import main
sys.exit(main())
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(target: Path, version: str) -> None:
    """Write the executable for ``version`` (like ``v1.36.5+k3s1``) to ``target`` (0755).

    The same version and sources give the same bytes: no time stamps, sorted entries, no compression (whose output
    could depend on zlib). Raises ValueError for a version that is not of K3s' form, OSError when it cannot write.
    """
    if not version.startswith("v") or "+k3s" not in version or '"' in version:
        raise ValueError(f"{version!r} is no K3s version like v1.36.5+k3s1")
    sources = {
        f"{PACKAGE}/{p.name}": p.read_bytes() for p in Path(__file__).parent.glob("*.py") if p.name != "build.py"
    }
    sources[f"{PACKAGE}/baked.py"] = f'VERSION = "{version}"\n'.encode()
    sources["__main__.py"] = _MAIN.encode()
    draft = target.with_name(target.name + ".new")
    with draft.open("wb") as stream:
        stream.write(b"#!/usr/bin/python3\n")
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(sources):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.external_attr = 0o644 << 16
                entry.create_system = 3
                archive.writestr(entry, sources[name])
    draft.chmod(0o755)
    draft.replace(target)
