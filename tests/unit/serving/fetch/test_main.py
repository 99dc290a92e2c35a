from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serval_serving.fetch.__main__ import main, run
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.failure_memo import KEEP_SECONDS, MARKER
from serval_serving.fetch.settings import FetchSettings
from serval_serving.server.batch_settings import BatchSettings, read_settings
from unit.serving.fetch.builders import below, model_files, tar, write
from unit.serving.fetch.clocks import Clock
from unit.serving.fetch.tls import Site, content, status

Settings = Callable[..., FetchSettings]
SERVING = Path(__file__).parents[4] / "serving"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SERVING), *sys.path])}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "termination-log"
    path.touch()
    return path


def said(log: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(log.read_text())
    return answer


def test_permanent_failure_is_remembered_for_ten_minutes(
    site: Site, settings: Settings, environment: Environment, log: Path
) -> None:
    made, wall = settings(site.uri("/m") + "?sig=SECRET"), Clock()
    first_line = None
    for _ in range(3):
        assert run(made, environment, ["--uri=x?SECRET"], log, wall) == 1
        first_line = first_line or said(log)
        assert said(log) == first_line
        assert said(log)["reason"] == "ModelNotFound"
        assert said(log)["permanent"] is True
        wall.now += 60
    assert len(site.requests) == 1
    assert "SECRET" not in (made.dest / MARKER).read_text()

    assert run(made, environment, ["--uri=y"], log, wall) == 1
    assert len(site.requests) == 2, "other arguments are tried at once"

    site.serve("/m", content(tar(model_files())))
    assert run(made, environment, ["--uri=y"], log, wall) == 1
    wall.now += KEEP_SECONDS
    assert run(made, environment, ["--uri=y"], log, wall) == 0
    assert said(log)["ok"] is True
    assert sorted(p.name for p in made.dest.iterdir()) == ["digits", "monitoring.config"]


def test_new_credentials_are_tried_at_once(
    site: Site, settings: Settings, environment: Environment, log: Path, tmp_path: Path
) -> None:
    secret = write(tmp_path / "secret", {"password": b"wrong"})
    made = settings(site.serve("/m", status(403)), credentials_dir=secret)
    for _ in range(2):
        assert run(made, environment, [], log, Clock()) == 1
    assert len(site.requests) == 1
    write(secret, {"password": b"right"})
    assert run(made, environment, [], log, Clock()) == 1
    assert len(site.requests) == 2


def test_passing_failure_is_not_remembered(
    site: Site, settings: Settings, environment: Environment, log: Path
) -> None:
    made = settings(site.serve("/m", status(400), content(tar(model_files()))))
    assert run(made, environment, [], log, Clock()) == 1
    assert said(log)["permanent"] is False
    assert run(made, environment, [], log, Clock()) == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"arguments": 1}', "\xff"])
def test_strange_marker_is_ignored(
    site: Site, settings: Settings, environment: Environment, log: Path, text: str
) -> None:
    made = settings(site.serve("/m", content(tar(model_files()))))
    (made.dest / MARKER).write_text(text, encoding="latin-1")
    assert run(made, environment, [], log, Clock()) == 0


def test_marker_from_the_future_is_ignored(
    site: Site, settings: Settings, environment: Environment, log: Path
) -> None:
    made = settings(site.uri("/m"))
    assert run(made, environment, [], log, Clock(5000)) == 1
    assert run(made, environment, [], log, Clock(4000)) == 1
    assert len(site.requests) == 2


def test_destination_that_cannot_be_written(settings: Settings, environment: Environment, log: Path) -> None:
    made = settings("pvc://c/m", dest=Path("/proc"))
    assert run(made, environment, [], log, Clock()) == 1
    assert said(log)["reason"] == "ModelSourceUnavailable"
    assert "/proc" in said(log)["message"]


def _command(tmp_path: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "serval_serving.fetch",
        "--name=digits",
        f"--dest={tmp_path}/models",
        "--max-bytes=1000000",
        "--max-entries=100",
        f"--pvc-mount={tmp_path}/source",
        f"--termination-log={tmp_path}/termination-log",
        *more,
    ]


def test_program(tmp_path: Path, log: Path) -> None:
    write(tmp_path / "source", below("digits/1", model_files()) | below("digits/2", model_files()))
    command = _command(tmp_path, "--uri=pvc://claim/digits", "--version=1")
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert said(log)["version"] == 1
    assert said(log)["inputs"] == [{"name": "images", "dtype": "DT_STRING", "shape": [-1]}]
    assert (tmp_path / "models" / "digits" / "1" / "saved_model.pb").is_file()

    pin = write(tmp_path, {"pin.json": b'{"version": 1, "digest": "sha256:%s"}' % (b"0" * 64)}) / "pin.json"
    command = _command(tmp_path, "--uri=pvc://claim/digits", f"--pin-file={pin}")
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, said(log)["reason"]) == (1, "ModelVersionSkew")

    command = _command(tmp_path, "--uri=pvc://claim/digits", "--version=7")
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert said(log)["reason"] == "ModelNotFound"
    assert "versions found: 2, 1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--batch-size=64",), BatchSettings(max_batch_size=64, max_execution_size=64)),
        (
            ("--batch-size=8", "--batch-timeout-micros=1500", "--batch-enqueued=3"),
            BatchSettings(
                max_batch_size=8, max_execution_size=8, timeout_seconds=0.0015, max_enqueued_batches=3
            ),
        ),
        (
            ("--batch-size=1", "--batch-timeout-micros=0"),
            BatchSettings(max_batch_size=1, max_execution_size=1, timeout_seconds=0.0),
        ),
    ],
)
def test_batching_parameters_are_what_the_server_reads(
    tmp_path: Path, arguments: tuple[str, ...], expected: BatchSettings
) -> None:
    write(tmp_path / "source", model_files())
    command = _command(tmp_path, "--uri=pvc://claim/", *arguments)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "batching.config",
        "digits",
        "monitoring.config",
    ]
    file = tmp_path / "models" / "batching.config"
    assert file.stat().st_mode & 0o777 == 0o644
    assert read_settings(file, cpus=1) == expected


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, serval_serving.fetch.__main__;"
        "print(sorted({m.split('.')[0] for m in sys.modules}"
        " & {'grpc', 'numpy', 'google', 'tensorflow', 'aiohttp', 'obstore', 'onnx', 'serval_operator'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_alarm_ends_what_hangs() -> None:
    code = "import time; from serval_serving.fetch.__main__ import _arm; _arm(-1.8); time.sleep(60)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False
    )
    assert "ModelSourceUnavailable: the model was not there" in done.stderr


def test_sigterm_ends_the_program() -> None:
    code = (
        "import time; from serval_serving.fetch.__main__ import _arm;"
        "_arm(99); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "argument",
    [
        "--name=../x",
        "--name=",
        "--name=monitoring.config",
        "--name=batching.config",
        "--batch-size=0",
        "--batch-timeout-micros=-1",
        "--batch-enqueued=0",
        "--batch-enqueued=5",
        "--max-bytes=0",
        "--max-entries=-1",
        "--version=-1",
        "--version=9223372036854775808",
        "--sha256=abc",
        "--framework=PyTorch",
    ],
)
def test_bad_arguments(tmp_path: Path, argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*_command(tmp_path)[3:], "--uri=pvc://c/m", argument])
    assert caught.value.code == 2
    assert argument.partition("=")[0] in capsys.readouterr().err
