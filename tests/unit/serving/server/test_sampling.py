"""Samples: what is written, their limits, that they warm a server up, and that nothing waits for them."""

from __future__ import annotations

import errno
import logging
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.models.handle import ServableHandle
from serval_serving.server import sample_files, sampling
from serval_serving.server.flags import FlagError, parse
from serval_serving.server.inference import Deadline, Inference, Run
from serval_serving.server.metrics import Metrics, RequestMetrics
from serval_serving.server.sample_files import SampleFiles
from serval_serving.server.samples import Sample, of_run
from serval_serving.server.sampling import Sampler, TokenBucket, sampler_of
from serval_serving.server.warmup import FILE, FOLDER, MAX_RECORDS
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array, to_array
from serval_serving.wire.tfrecord import read_records
from unit.serving.server.fake_engine import FakeModel, write_version
from unit.serving.server.grpc_calls import floats
from unit.serving.server.processes import FAKE, Server, front_of, running, wait_until
from unit.serving.server.rest_calls import METRICS

LIMIT = 30.0


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def logs_of(folder: Path) -> list[messages.PredictionLog]:
    logs = []
    for path in files_of(folder):
        with path.open("rb") as stream:
            logs += [messages.PredictionLog.FromString(data) for data in read_records(stream, path)]
    return logs


class TestFiles:
    def test_a_file_has_one_version_and_no_more_records_than_a_warm_up(self, tmp_path: Path) -> None:
        files = SampleFiles(tmp_path, "pod", 1 << 20)
        for _ in range(MAX_RECORDS + 1):
            assert files.add("m", 1, b"abc")
        assert files.add("m", 2, b"abc")
        found = {
            (path.parent.relative_to(tmp_path).as_posix(), path.stat().st_size) for path in files_of(tmp_path)
        }
        assert found == {("m/1", 3 * MAX_RECORDS), ("m/1", 3), ("m/2", 3)}
        assert {oct(path.stat().st_mode & 0o777) for path in files_of(tmp_path)} == {"0o600"}

    def test_the_oldest_give_way(self, tmp_path: Path) -> None:
        files = SampleFiles(tmp_path, "pod", 800)
        for number in range(40):
            assert files.add(f"m{number // 4}", 1, bytes([number]) * 50)
            assert sum(path.stat().st_size for path in files_of(tmp_path)) <= 800
        kept = {path.read_bytes()[0] for path in files_of(tmp_path)}
        assert kept == set(range(24, 40, 2))
        assert {path.name for path in tmp_path.iterdir()} >= {"m9"}
        assert not list((tmp_path / "m0").iterdir())

    def test_a_file_that_gives_way_to_its_own_next_record_begins_again(self, tmp_path: Path) -> None:
        files = SampleFiles(tmp_path, "pod", 800)
        assert files.add("first", 1, bytes(50))
        for number in range(15):
            assert files.add(f"m{number}", 1, bytes(50))
        assert files.add("first", 1, bytes(50))
        for number in range(20):
            assert files.add(f"n{number}", 1, bytes(50))
            assert sum(path.stat().st_size for path in files_of(tmp_path)) <= 800

    def test_a_record_that_is_too_large_takes_nothing_away(self, tmp_path: Path) -> None:
        files = SampleFiles(tmp_path, "pod", 800)
        assert files.add("m", 1, bytes(100))
        assert not files.add("m", 1, bytes(101))
        assert [path.stat().st_size for path in files_of(tmp_path)] == [100]

    def test_files_of_an_earlier_process_count_and_those_of_other_pods_do_not(self, tmp_path: Path) -> None:
        for pod in ("pod", "other"):
            files = SampleFiles(tmp_path, pod, 800)
            for _ in range(8):
                files.add("m", 1, bytes(100))
        before = {path for path in files_of(tmp_path) if path.name.startswith("other")}
        again = SampleFiles(tmp_path, "pod", 800, now=lambda: 5.0)
        assert again.add("m", 1, bytes(100))
        own = [path for path in files_of(tmp_path) if path.name.startswith("pod")]
        assert len(own) == 8
        assert before <= set(files_of(tmp_path))

    @pytest.mark.parametrize("name", ["..", ".", "../../x", "a/b", "/etc", "é" * 200, ".hidden"])
    def test_a_name_stays_one_folder(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "samples"
        SampleFiles(folder, name[:20], 800).add(name, 1, b"abc")
        (file,) = files_of(tmp_path)
        assert len(file.relative_to(folder).parts) == 3

    def test_what_does_not_fit_on_the_disk_is_taken_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = SampleFiles(tmp_path, "pod", 8000)
        files.add("m", 1, b"whole")
        real = os.fdopen

        def short(*arguments: Any, **more: Any) -> Any:
            stream = real(*arguments, **more)

            class Short:
                def __enter__(self) -> Any:
                    return self

                def __exit__(self, *_: object) -> None:
                    stream.close()

                def write(self, data: bytes) -> int:
                    return int(stream.write(data[:2]))

                truncate = stream.truncate

            return Short()

        monkeypatch.setattr(os, "fdopen", short)
        with pytest.raises(OSError, match="2 of 5 bytes"):
            files.add("m", 1, b"other")
        monkeypatch.undo()
        assert files.add("m", 1, b"third")
        assert [path.read_bytes() for path in files_of(tmp_path)] == [b"wholethird"]


def test_a_rate_is_limited() -> None:
    now = [0.0]
    bucket = TokenBucket(2, lambda: now[0])
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def outcomes(metrics: RequestMetrics) -> dict[str, int]:
    lines = [line for line in metrics.request_page().splitlines() if line.startswith("serval_samples_total{")]
    return {line.split('"')[1]: int(line.split()[1]) for line in lines}


class Made:
    """A sampler of all requests, whose thread a test may hold up."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.metrics = RequestMetrics()
        self.folder = folder
        self.go = threading.Event()
        settings = {"rate": 1.0, "per_second": 1000, **more}
        self.sampler = Sampler(SampleFiles(folder, "pod", 1 << 20), metrics=self.metrics, **settings)

    def sample(self, size: int = 3) -> Sample:
        def write() -> bytes:
            self.go.wait(LIMIT)
            return b"abc"

        return Sample("m", 1, size, write)

    def finish(self) -> dict[str, int]:
        self.go.set()
        self.sampler.stop()
        return outcomes(self.metrics)


def test_nobody_waits_and_what_is_too_much_is_dropped(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.sampler.start()
    for _ in range(1000):
        made.sampler.offer(made.sample())
    found = made.finish()
    assert found["written"] + found["dropped"] == 1000
    assert 256 <= found["written"] <= 258
    assert len(files_of(tmp_path)) == 1


@pytest.mark.parametrize("limit", ["MAX_SAMPLE_BYTES", "MAX_PENDING_BYTES", "BYTES_PER_SECOND"])
def test_bytes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(sampling, limit, 100)
    made = Made(tmp_path, clock=lambda: 0.0)
    made.sampler.start()
    sizes = (101, 100, 1) if limit == "MAX_SAMPLE_BYTES" else (60, 60, 40)
    for size in sizes:
        made.sampler.offer(made.sample(size))
    assert made.finish() == {"dropped": 1, "written": 2}


@pytest.mark.parametrize(("more", "chosen"), [({"rate": 0.0}, 0), ({"per_second": 3}, 3), ({}, 50)])
def test_rate_and_number_are_limited(tmp_path: Path, more: dict[str, Any], chosen: int) -> None:
    made = Made(tmp_path, clock=lambda: 0.0, **more)
    assert sum(made.sampler.chooses() for _ in range(50)) == chosen


def test_failures_do_not_end_sampling_and_quote_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made(tmp_path)
    errors = [OSError(errno.ENOSPC, "No space left on device"), ValueError("what was sent")]
    real = SampleFiles.add

    def add(files: SampleFiles, *arguments: Any) -> bool:
        if errors:
            raise errors.pop(0)
        return real(files, *arguments)

    monkeypatch.setattr(sample_files.SampleFiles, "add", add)
    made.sampler.start()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            made.sampler.offer(made.sample())
        assert made.finish() == {"failed": 2, "written": 1}
    assert caplog.messages == ["a sample cannot be written: No space left on device"]


def test_a_warm_up_is_no_sample(tmp_path: Path) -> None:
    seen: list[Run] = []
    inference = Inference({}, Metrics())
    inference.use_samples(seen.append)
    model = FakeModel({"factor": 2})
    handle = ServableHandle("m", 1, model, tmp_path)
    inference.run(handle, model.signatures["serving_default"], {"x": floats(1)}, ["y"], Deadline())
    assert seen == []


@pytest.mark.parametrize(
    "array", [floats(1, 2), np.array([[1], [2]], np.int64), np.array([b"a", b"bc"], dtype=object)]
)
def test_a_run_becomes_a_log_of_predict(array: np.ndarray) -> None:
    model = FakeModel({"factor": 2})
    handle = ServableHandle("m", 7, model)
    sample = of_run(
        Run(handle.name, handle.version, model.signatures["serving_default"], {"x": array}, ["y"], [array]),
        100,
    )
    log = messages.PredictionLog.FromString(sample.write())
    request, reply = log.predict_log.request, log.predict_log.response
    assert to_array(request.inputs["x"]).tolist() == to_array(reply.outputs["y"]).tolist() == array.tolist()
    assert (request.model_spec.name, request.model_spec.signature_name) == ("m", "serving_default")
    assert not request.model_spec.HasField("version"), "it must fit every version"
    assert (reply.model_spec.version.value, log.log_metadata.model_spec.version.value) == (7, 7)
    assert list(request.output_filter) == ["y"]
    assert sample.size == 2 * (array.nbytes if array.dtype != object else 3)


def test_a_run_keeps_nothing_larger_than_its_size() -> None:
    batch = np.zeros((100, 2), np.float32)
    whole = weakref.ref(batch)
    model = FakeModel({"factor": 2})
    run = Run("m", 7, model.signatures["serving_default"], {"x": batch[:1]}, ["y"], [])
    sample = of_run(run, 8)
    del batch, run
    assert whole() is None
    assert sample.size == 8


def test_a_sample_that_was_written_is_kept_no_longer(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.go.set()
    made.sampler.start()
    held = np.zeros(1)
    kept = weakref.ref(held)
    made.sampler.offer(Sample("m", 1, 3, lambda held=held: bytes(held)))
    del held
    wait_until("it is gone", lambda: kept() is None)
    assert made.finish() == {"written": 1}


def test_a_folder_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    settings = parse(["--model_base_path=/m", f"--sample_folder={file}"]).settings
    with pytest.raises(FlagError, match="--sample_folder cannot be used"):
        sampler_of(settings, RequestMetrics())
    assert sampler_of(parse(["--model_base_path=/m"]).settings, RequestMetrics()) is None


def send(server: Server) -> None:
    """Send a Predict call, and a REST request, and two that fail."""
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    request.inputs["x"].CopyFrom(from_array(floats(1)))
    with server.channel() as channel:
        call = channel.unary_unary(rpc.PREDICT.path)
        call(request.SerializeToString(), timeout=LIMIT)
        with pytest.raises(grpc.RpcError):
            call(b"\xff", timeout=LIMIT)
    assert server.post("/v1/models/m:predict", '{"instances": [2.0]}').status == 200
    assert server.post("/v1/models/m:predict", '{"instances": ["a"]}').status == 400


@pytest.mark.parametrize("way", ["direct", "front"])
def test_samples_of_a_live_server_warm_another_one_up(tmp_path: Path, way: str) -> None:
    base, folder = tmp_path / "m", tmp_path / "samples"
    write_version(base, 3)
    flags = (f"--sample_folder={folder}", "--sample_rate=1", "--model_name=m", "--drain_seconds=1")

    def served(*more: str) -> Server:
        return Server(FAKE, tmp_path / "log", "--model_name=m", f"--model_base_path={base}", *more)

    with running(served(*(flags if way == "direct" else ()))) as behind:
        behind.wait_ready()
        in_front: AbstractContextManager[Server] = running(behind)
        if way == "front":
            in_front = running(front_of(behind, tmp_path / "front", *flags))
        with in_front as server:
            send(server.wait_ready())
            page: Callable[[], bytes] = lambda: server.get(METRICS).data  # noqa: E731
            wait_until("both are written", lambda: b'serval_samples_total{outcome="written"} 2' in page())
    logs = logs_of(folder)
    sent = sorted(to_array(log.predict_log.request.inputs["x"]).tolist() for log in logs)
    answered = sorted(to_array(log.predict_log.response.outputs["y"]).tolist() for log in logs)
    assert (sent, answered) == ([[1.0], [2.0]], [[3.0], [6.0]])
    assert {log.log_metadata.model_spec.version.value for log in logs} == {3}
    (file,) = files_of(folder)
    assert file.parent == folder / "m" / "3"
    warm = base / "3" / FOLDER / FILE
    warm.parent.mkdir()
    file.rename(warm)
    with running(served()) as again:
        assert "warmed up model=m version=3 records=2" in again.wait_ready().log
