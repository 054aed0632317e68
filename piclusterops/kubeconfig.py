"""The cluster's kubeconfig, merged into the user's own without disturbing anything else in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pyinfra.api.exceptions import PyinfraError

from piclusterops.whole_file import write_whole

_LISTS = ("clusters", "contexts", "users")
_API_PORT = 6443


class KubeconfigError(PyinfraError):
    """A kubeconfig is not one; the text names it and what to do."""


def rewrite(text: str, cluster_name: str, server_address: str) -> str:
    """K3s' own kubeconfig, whose names are all `default` and whose server is loopback, under the cluster's name.

    Raises:
        KubeconfigError: the text is not a kubeconfig of one cluster with one user.
    """
    config = _parse(text, "the kubeconfig of the cluster")
    entries = {name: config.get(name) or [] for name in _LISTS}
    if any(len(entries[name]) != 1 for name in _LISTS):
        raise KubeconfigError("The kubeconfig of the cluster is not the one K3s writes: /etc/rancher/k3s/k3s.yaml")
    cluster = {**entries["clusters"][0]["cluster"], "server": f"https://{server_address}:{_API_PORT}"}
    return _dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster_name, "cluster": cluster}],
            "contexts": [{"name": cluster_name, "context": {"cluster": cluster_name, "user": cluster_name}}],
            "users": [{"name": cluster_name, "user": entries["users"][0]["user"]}],
            "current-context": cluster_name,
        }
    )


def merge(existing: str, new: str) -> str:
    """`existing` with the entries of `new` added or refreshed, all else as it was.

    The current context is set only when there is none; a namespace the user chose for the context is kept.

    Raises:
        KubeconfigError: one of the texts is not a kubeconfig.
    """
    merged = _parse(existing, "the kubeconfig to merge into") if existing.strip() else {}
    added = _parse(new, "the new kubeconfig")
    merged.setdefault("apiVersion", "v1")
    merged.setdefault("kind", "Config")
    for name in _LISTS:
        merged[name] = _replaced(merged.get(name) or [], added.get(name) or [])
    if not merged.get("current-context"):
        merged["current-context"] = added.get("current-context", "")
    return _dump(merged)


def merge_file(path: Path, new: str) -> bool:
    """Merge into a file: written whole, 0600, the old one kept beside it as `<name>.bak`.

    Returns:
        Whether the file changed.

    Raises:
        KubeconfigError: the file is not a kubeconfig, or it cannot be written; it is then left alone.
    """
    try:
        target = path.resolve()
        existing = target.read_text(encoding="utf-8") if target.exists() else ""
        try:
            merged = merge(existing, new)
        except KubeconfigError as error:
            raise KubeconfigError(f"{path}: {error}. Choose another file with --file") from error
        if existing and _parse(existing, str(path)) == _parse(merged, str(path)):
            target.chmod(0o600)
            return False
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if existing:
            write_whole(target.with_name(f"{target.name}.bak"), existing.encode(), 0o600)
        write_whole(target, merged.encode(), 0o600)
        return True
    except OSError as error:
        raise KubeconfigError(f"cannot write {path}: {error.strerror}") from error


def _replaced(old: list[Any], new: list[Any]) -> list[Any]:
    """`old` with entries of the same name replaced in place, and the others of `new` at the end."""
    fresh = {entry["name"]: entry for entry in new}
    result = []
    for entry in old:
        replacement = fresh.pop(entry.get("name"), None)
        result.append(entry if replacement is None else _with_namespace(replacement, entry))
    return result + list(fresh.values())


def _with_namespace(entry: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    namespace = (old.get("context") or {}).get("namespace")
    if namespace is None or "context" not in entry:
        return entry
    return {**entry, "context": {**entry["context"], "namespace": namespace}}


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # The text of the error would quote the file, which holds keys.
        raise KubeconfigError(f"{what} is not valid YAML") from error
    if not isinstance(config, dict) or config.get("kind", "Config") != "Config":
        raise KubeconfigError(f"{what} is not a kubeconfig")
    if any(not isinstance(config.get(name) or [], list) for name in _LISTS):
        raise KubeconfigError(f"{what} is not a kubeconfig")
    return config


def _dump(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, default_flow_style=False, width=1_000_000)
