"""The stand-in k3s merges and refuses settings as K3s does."""

from __future__ import annotations

from pathlib import Path

import pytest

from piclusterops.lab.k3s import config, flags
from piclusterops.lab.k3s.log import Fatal


def written(folder: Path, main: str, **drop_ins: str) -> str:
    """config.yaml and its drop-ins; returns the main file's path."""
    (folder / "config.yaml").write_text(main)
    (folder / "config.yaml.d").mkdir()
    for name, text in drop_ins.items():
        (folder / "config.yaml.d" / f"{name}.yaml").write_text(text)
    return str(folder / "config.yaml")


def load(mode: str, path: str, *argv: str, **environment: str) -> config.Options:
    return config.load(mode, argv, environment, path)


def test_the_last_file_wins_and_plus_appends(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "node-name: one\ntls-san: [a]\nnode-label: [x=1]\n",
        b="node-label+: [z=3]\nnode-name: three\n",
        a="node-name: two\nnode-label+: [y=2]\ntls-san: [b, c]\n",
    )
    options = load("server", path)
    assert options.text("node-name") == "three"
    assert options.many("node-label") == ["x=1", "y=2", "z=3"]
    assert options.many("tls-san") == ["b", "c"]


def test_only_yaml_files_of_the_folder_count(tmp_path: Path) -> None:
    path = written(tmp_path, "node-name: one\n")
    (tmp_path / "config.yaml.d" / "x.yaml.bak").write_text("node-name: two\n")
    assert load("server", path).text("node-name") == "one"


def test_the_command_line_replaces_values_and_whole_lists(tmp_path: Path) -> None:
    path = written(tmp_path, "tls-san: [a, b]\ntoken: file\ncluster-init: true\n")
    options = load("server", path, "--tls-san", "c", "--token=line", "--cluster-init=false")
    assert options.many("tls-san") == ["c"]
    assert options.text("token") == "line"
    assert not options.on("cluster-init")


def test_the_environment_counts_only_where_nothing_else_does(tmp_path: Path) -> None:
    path = written(tmp_path, "token: file\n")
    options = load("agent", path, K3S_TOKEN="env", K3S_URL="https://s:6443", K3S_NODE_NAME="n")
    assert options.text("token") == "file"
    assert options.text("server") == "https://s:6443"
    assert options.text("node-name") == "n"


def test_k3s_config_file_names_another_file_that_must_exist(tmp_path: Path) -> None:
    path = written(tmp_path, "node-name: one\n")
    assert config.load("server", [], {"K3S_CONFIG_FILE": path}, "/nowhere").text("node-name") == "one"
    with pytest.raises(Fatal, match=r"no such file"):
        config.load("server", [], {"K3S_CONFIG_FILE": "/nowhere/config.yaml"})


def test_server_skips_an_unknown_key_of_the_file_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("server", written(tmp_path, "tls-sans: [a]\n")).values == {}
    assert 'level=warning msg="Unknown flag --tls-sans found in config.yaml, skipping\\n"' in capsys.readouterr().err


@pytest.mark.parametrize("key", ["tls-san", "cluster-cidr", "write-kubeconfig-mode", "nonsense"])
def test_agent_refuses_keys_that_it_does_not_know(tmp_path: Path, key: str) -> None:
    with pytest.raises(Fatal, match=f"^flag provided but not defined: -{key}$"):
        load("agent", written(tmp_path, f"{key}: x\n"))


@pytest.mark.parametrize("mode", ["server", "agent"])
def test_an_unknown_flag_of_the_command_line_is_refused(tmp_path: Path, mode: str) -> None:
    with pytest.raises(Fatal, match=r"^flag provided but not defined: -nonsense$"):
        load(mode, written(tmp_path, ""), "--nonsense", "x")


def test_values_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match=r"flag -cluster-init: parse error$"):
        load("server", written(tmp_path, "cluster-init: perhaps\n"))


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "- a\n")
    with pytest.raises(Fatal, match="failed to load config file"):
        load("server", path)
    Path(path).write_text("a: [b\n")
    with pytest.raises(Fatal, match="failed to load config file"):
        load("server", path)


def test_component_arguments_keep_their_commas(tmp_path: Path) -> None:
    path = written(tmp_path, 'kube-apiserver-arg: ["enable-admission-plugins=A,B"]\ndisable: servicelb,traefik\n')
    options = load("server", path)
    assert options.many("kube-apiserver-arg") == ["enable-admission-plugins=A,B"]
    assert options.many("disable") == ["servicelb", "traefik"]


def test_a_token_file_wins_over_a_token(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("from-file\n")
    options = load("server", written(tmp_path, f"token: direct\ntoken-file: {secret}\n"))
    assert config.read_secret(options, "token") == "from-file"
    secret.unlink()
    with pytest.raises(Fatal, match=r": no such file or directory$"):
        config.read_secret(options, "token")


def test_every_flag_of_an_agent_is_one_of_a_server_too() -> None:
    assert set(flags.AGENT) < set(flags.SERVER)
    assert set(flags.SERVER.values()) == {"text", "bool", "int", "list"}
