"""A small catalogue with secrets of every kind, and stores for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from k3s_samples import cluster

from piclusterops.catalogue import Release
from piclusterops.secrets import SecretStore, open_store

#: Where an owner of the samples gets the token; told when it is missing.
WHY = "API token of the DNS zone: dns.example.org, My Profile"

SECRETS: dict[str, list[dict[str, Any]]] = {
    "flows": [
        {
            "name": "flows",
            "keys": {
                "username": {"kind": "static", "value": "admin"},
                "password": {"kind": "password"},
                "sensitive-key": {"kind": "hex", "rotates": False},
            },
            "restarts": ["data-platform/statefulset/flows"],
        }
    ],
    "queries": [
        {
            "name": "queries",
            "keys": {
                "cookie": {"kind": "base64"},
                "password.db": {
                    "kind": "template",
                    "template": "{{ secret('flows', 'username') }}:{{ bcrypt(secret('flows', 'password')) }}\n",
                },
            },
            "namespaces": ["dmz"],
            "labels": {"a/b": "c"},
            "tells": [
                {
                    "workload": "data-platform/deployment/queries",
                    "container": "queries",
                    "command": ["set-cookie"],
                    "stdin": ["cookie"],
                }
            ],
            "taken_by": "its operator, which watches it",
        }
    ],
    "names": [{"name": "names", "keys": {"api-token": {"kind": "given", "why": WHY}}}],
}


def raw_release(name: str, secrets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "chart": {"name": name, "version": "1.2.3", "repository": "https://charts.example.org", "app_version": "1"},
        "namespace": "data-platform",
        "profiles": ["minimal"],
        "secrets": secrets,
        "licence": {"spdx": "Apache-2.0", "source": "LICENSE"},
        "maintenance": {"maintained": True, "note": "2026-08"},
        "arm64": "none",
    }


def releases(**secrets: list[dict[str, Any]]) -> list[Release]:
    """The releases of the samples, or others with these Secrets."""
    return [Release.model_validate(raw_release(name, given)) for name, given in (secrets or SECRETS).items()]


def one_key(**key: Any) -> list[Release]:
    """A release with one Secret, `one`, with one key, `key`."""
    return releases(one=[{"name": "one", "keys": {"key": key}}])


def write_catalogue(folder: Path) -> None:
    """The releases of the samples as files of a catalogue."""
    (folder / "releases").mkdir(parents=True)
    (folder / "values").mkdir()
    for name, secrets in SECRETS.items():
        (folder / "releases" / f"{name}.yaml").write_text(yaml.safe_dump(raw_release(name, secrets)))
        (folder / "values" / f"{name}.yaml.j2").touch()


def age_store(folder: Path, key: str = "age.key", **settings: Any) -> SecretStore:
    """A store in `inventories/prod.secrets.age` of a folder."""
    (folder / "inventories").mkdir(exist_ok=True)
    chosen = cluster(secrets_key=str(folder / "keys" / key), **settings).settings
    return open_store(chosen, folder / "inventories" / "prod.py")


def made(store: SecretStore, *which: Release) -> SecretStore:
    """The store, with all that can be made for these releases, or for those of the samples."""
    store.provider.prepare()
    store.init(which or releases())
    return store


def plain(values: dict[str, dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Values, unwrapped."""
    return {(secret, key): value.get_secret_value() for secret, keys in values.items() for key, value in keys.items()}


#: Behaves like `pass` at the verbs that are used; where there is a file `seen`, it keeps there what it was called with,
#: and what `ps` saw meanwhile.
PASS = """#!/bin/sh
set -eu
root=${PASSWORD_STORE_DIR:?}
if [ -e "$root/seen" ]; then { echo "$@"; ps -eo args; tr '\\0' '\\n' < /proc/self/environ; } >> "$root/seen"; fi
case $1 in
show)
    [ -e "$root/$2.gpg" ] || { echo "Error: $2 is not in the password store." >&2; exit 1; }
    cat "$root/$2.gpg" ;;
insert)
    [ "$2 $3" = "--multiline --force" ] || { echo "Usage: pass insert" >&2; exit 1; }
    echo "Enter contents of $4 and press Ctrl+D when finished:"
    mkdir -p "$root/$(dirname "$4")"
    cat > "$root/$4.gpg" ;;
*) exit 64 ;;
esac
"""


def install_pass(folder: Path) -> Path:
    """A stand-in for `pass` in a folder of its own, to be put into PATH."""
    program = folder / "bin" / "pass"
    program.parent.mkdir()
    program.write_text(PASS)
    program.chmod(0o755)
    store = folder / "password-store"
    store.mkdir()
    (store / ".gpg-id").write_text("tests\n")
    os.environ["PASSWORD_STORE_DIR"] = str(store)
    os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    return store
