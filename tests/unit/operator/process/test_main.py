"""The entry point: its flags, and what it makes of a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serval_operator.__main__ import main, serve
from serval_operator.config import load_configuration
from serval_operator.settings import Settings
from support.watchable import watchable
from support.watched import WATCHED


def test_check_config_says_ok(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config"], {"SERVAL_CONFIG_FILE": str(config_file)}) == 0
    assert capsys.readouterr().out == f"{config_file}: ok\n"


@pytest.mark.parametrize("arguments", [["--check-config"], []])
def test_a_wrong_setting_is_one_line_and_exit_2(
    arguments: list[str], config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"SERVAL_CONFIG_FILE": str(config_file), "SERVAL_WORKERS": "none"}
    assert main(arguments, env) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("serval-operator: SERVAL_WORKERS: must be")


@pytest.mark.parametrize("arguments", [["--check-config"], []])
def test_an_unknown_kind_is_one_line_and_exit_2(
    arguments: list[str], config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, {"SERVAL_CONFIG_FILE": str(config_file), "SERVAL_KINDS": "Toy"}) == 2
    assert capsys.readouterr().err.startswith("serval-operator: SERVAL_KINDS: 'Toy' is none of ")


def test_a_wrong_configuration_is_one_line_and_exit_2(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text("apiVersion: x\n")
    assert main([], {"SERVAL_CONFIG_FILE": str(config_file)}) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(config_file) in error


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("serval-operator ")


async def test_no_cluster_is_exit_2(config_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(kubeconfig="/nonexistent/kubeconfig")
    assert await serve(settings, load_configuration(config_file)) == 2
    assert "no cluster can be reached" in caplog.text


async def test_the_failure_of_a_part_is_logged_and_exit_1(
    config_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watchable(WATCHED) as cluster:
        cluster.refuse = [500] * 100_000
        kubeconfig = tmp_path / "kubeconfig"
        named = {"cluster": "c", "user": "u"}
        document = {
            "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
            "users": [{"name": "u", "user": {"token": "abc"}}],
            "contexts": [{"name": "x", "context": named}],
            "current-context": "x",
        }
        kubeconfig.write_text(json.dumps(document))
        settings = Settings(kubeconfig=str(kubeconfig), http_host="127.0.0.1", http_port=0, start_seconds=1.0)
        assert await serve(settings, load_configuration(config_file)) == 1
    assert "ends: 500" in caplog.text
