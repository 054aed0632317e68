"""Settings of one run: config.yaml, config.yaml.d, the command line and the environment, merged as K3s does.

Rules (docs.k3s.io/installation/configuration and k3s ``pkg/configfilearg``): drop-ins in alphabetical order, the
last value wins, ``key+`` appends; a flag on the command line replaces the file's value, lists included; the
environment counts only where neither says anything. A key that the command does not know is an error on the
command line; in the files it is skipped with a warning by ``server`` and ``etcd-snapshot`` and is an error for
``agent``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from . import flags, log
from .log import Fatal

DEFAULT_CONFIG = "/etc/rancher/k3s/config.yaml"
Value = str | bool | list[str]


@dataclass
class Options:
    """The merged settings; ``rest`` holds the arguments that are no flags."""

    mode: str
    values: dict[str, Value] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name)
        return value if isinstance(value, str) and value else default

    def on(self, name: str) -> bool:
        return self.values.get(name) is True

    def many(self, name: str) -> list[str]:
        value = self.values.get(name, [])
        items = value if isinstance(value, list) else [str(value)]
        if name in flags.COMMA_SPLIT:
            return [part.strip() for item in items for part in item.split(",") if part.strip()]
        return items


def parse_bool(name: str, value: str) -> bool:
    """Go's strconv.ParseBool. Raises Fatal with the text of K3s' flag parser."""
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Fatal(f'invalid value "{value}" for flag -{name}: parse error')


def _string(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def config_files(path: Path) -> list[Path]:
    """The main file (when present) and the drop-ins of ``<file>.d``, in the order of reading."""
    drop_ins = Path(f"{path}.d")
    found = sorted(p for p in drop_ins.glob("*") if p.suffix in (".yaml", ".yml")) if drop_ins.is_dir() else []
    return ([path] if path.is_file() else []) + found


def merge_files(files: Sequence[Path]) -> dict[str, list[str]]:
    """Every key of the files with its values as text. Raises Fatal for a file that is no YAML mapping."""
    merged: dict[str, list[str]] = {}
    for file in files:
        try:
            data = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as problem:
            raise Fatal(f"failed to load config file {file}: {str(problem).replace(chr(10), ' ')}") from problem
        if data is None:
            continue
        if not isinstance(data, dict):
            raise Fatal(f"failed to load config file {file}: yaml: cannot unmarshal into a map of settings")
        for key, value in data.items():
            name = str(key)
            values = [_string(v) for v in value] if isinstance(value, list) else [_string(value)]
            if name.endswith("+"):
                merged.setdefault(name[:-1], []).extend(values)
            else:
                merged[name] = values
    return merged


def split_arguments(
    kinds: flags.Kinds, aliases: Mapping[str, str], argv: Sequence[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Flags with their values, and the rest. Raises Fatal for an unknown flag or a missing value."""
    given: dict[str, list[str]] = {}
    rest: list[str] = []
    todo = list(argv)
    while todo:
        word = todo.pop(0)
        if word == "--":
            rest += todo
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        written, equals, value = word.lstrip("-").partition("=")
        name = aliases.get(written, written)
        if name not in kinds:
            raise Fatal(f"flag provided but not defined: -{written}")
        if kinds[name] == "bool":
            value = value if equals else "true"
        elif not equals:
            if not todo:
                raise Fatal(f"flag needs an argument: -{written}")
            value = todo.pop(0)
        given.setdefault(name, []).append(value)
    return given, rest


def _known_from_files(
    mode: str, kinds: flags.Kinds, aliases: Mapping[str, str], data: dict[str, list[str]]
) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {}
    for key, values in data.items():
        name = aliases.get(key, key)
        if name in kinds:
            known[name] = values
        elif mode == "agent":
            raise Fatal(f"flag provided but not defined: -{key}")
        else:
            log.warning(f"Unknown flag --{key} found in config.yaml, skipping\n")
    return known


def _typed(kinds: flags.Kinds, name: str, values: list[str]) -> Value:
    kind = kinds[name]
    if kind == "list":
        return [v for v in values if v]
    last = values[-1] if values else ""
    if kind == "bool":
        return parse_bool(name, last) if last else True
    if kind == "int" and last:
        try:
            int(last)
        except ValueError:
            raise Fatal(f'invalid value "{last}" for flag -{name}: parse error') from None
    return last


def load(
    mode: str, argv: Sequence[str], environment: Mapping[str, str], default_config: str = DEFAULT_CONFIG
) -> Options:
    """All settings of ``mode`` (``server``, ``agent``, ``etcd-snapshot``). Raises Fatal."""
    kinds = flags.MODES[mode]
    aliases = flags.SNAPSHOT_ALIASES if mode == "etcd-snapshot" else flags.ALIASES
    given, rest = split_arguments(kinds, aliases, argv)
    chosen = environment.get("K3S_CONFIG_FILE") or (given.get("config") or [""])[-1]
    path = Path(chosen or default_config)
    if chosen and not path.is_file():
        raise Fatal(f"open {path}: no such file or directory")
    merged = _known_from_files(mode, kinds, aliases, merge_files(config_files(path)))
    merged.update(given)
    for name, variable in flags.ENVIRONMENT.items():
        if name in kinds and name not in merged and environment.get(variable):
            merged[name] = [environment[variable]]
    return Options(mode, {name: _typed(kinds, name, values) for name, values in merged.items()}, rest)


def read_secret(options: Options, name: str, read: Callable[[Path], str] = Path.read_text) -> str:
    """``name`` or the content of ``name``-file (which wins, as in K3s). Raises Fatal when the file is unreadable."""
    file = options.text(f"{name}-file")
    if not file:
        return options.text(name)
    try:
        return read(Path(file)).strip()
    except OSError as problem:
        raise Fatal(f"open {file}: {(problem.strerror or str(problem)).lower()}") from problem
