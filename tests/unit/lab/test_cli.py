from __future__ import annotations

import pytest

from serval_lab.cli import build_parser, main


@pytest.mark.parametrize(
    "line",
    [
        "up",
        "up --name a --node x --node y,device=nvidia.com/gpu:1 --kwok --fast",
        "down --purge",
        "down --all",
        "status",
        "kubeconfig --name b",
        "logs",
        "logs kube-apiserver --lines 5",
        "load-image image.tar repo:tag",
        "node kill gpu-0",
        "node start gpu-0 --name c",
        "device gpu-0 nvidia.com/gpu --units 3",
        "device gpu-0 nvidia.com/gpu --unhealthy unit-0,unit-1",
        "device gpu-0 nvidia.com/gpu --refuse",
        "up --metrics --prometheus --hpa-period 3",
        "node cut gpu-0",
        "node mend gpu-0",
        "device gpu-0 nvidia.com/gpu --stop",
        "device gpu-0 nvidia.com/gpu --start",
        "leftovers",
        "leftovers --name a",
        "binaries",
    ],
)
def test_command_lines_are_understood(line: str) -> None:
    assert callable(build_parser().parse_args(line.split()).run)


@pytest.mark.parametrize(
    "line", ["", "upp", "node crash gpu-0", "device gpu-0 x.y/z", "device gpu-0 x.y/z --units 1 --refuse"]
)
def test_bad_command_lines_end_with_status_2(line: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args(line.split())
    assert stopped.value.code == 2


def test_errors_are_one_line_and_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("SERVAL_STATE", str(tmp_path))
    assert main(["kubeconfig"]) == 1
    assert (
        capsys.readouterr().err == "error: lab serval is not up; run: python -m serval_lab up --name serval\n"
    )
    assert main(["up", "--node", "BAD"]) == 1
    assert main(["status"]) == 1
