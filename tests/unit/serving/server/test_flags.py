from __future__ import annotations

import re
from pathlib import Path

import pytest

from serval_contract.metrics import METRICS_PATH
from serval_serving.server import flags
from serval_serving.server.cpus import usable_cpus
from serval_serving.server.flags import FlagError, parse
from serval_serving.server.monitoring import metrics_path
from serval_serving.server.settings import DEFAULTS, FLAGS

BASE = "--model_base_path=/models/m"


def test_defaults_are_tensorflow_servings() -> None:
    settings = parse([BASE]).settings
    assert (settings.port, settings.rest_api_port, settings.model_name) == (8500, 0, "default")
    assert (settings.file_system_poll_wait_seconds, settings.max_num_load_retries) == (1, 5)
    assert (settings.load_retry_interval_micros, settings.rest_api_timeout_in_ms) == (60_000_000, 30_000)
    assert settings.saved_model_tags == ("serve",)


def test_the_arguments_of_the_pod() -> None:
    line = parse(["--port=8500", "--rest_api_port=8501", "--model_name=resnet50", BASE])
    assert line.settings.rest_api_port == 8501
    assert line.settings.model_base_path == Path("/models/m")
    assert (line.ignored, line.unknown) == ((), ())


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("--port=1", "port", 1),
        ("--saved_model_tags=serve,gpu", "saved_model_tags", ("serve", "gpu")),
        ("--per_process_gpu_memory_fraction=0.5", "per_process_gpu_memory_fraction", 0.5),
        ("--drain_seconds=1.5", "drain_seconds", 1.5),
        ("--max_connection_age_seconds=0", "max_connection_age_seconds", 0.0),
        ("--enable_scoring=false", "enable_scoring", False),
        ("--scoring_output=probabilities", "scoring_output", "probabilities"),
        ("--max_concurrent_requests=9", "max_concurrent_requests", 9),
        ("--file_system_poll_wait_seconds=-1", "file_system_poll_wait_seconds", -1),
        (
            "--grpc_channel_arguments=grpc.max_connection_age_ms=20,a=b",
            "grpc_channel_arguments",
            (("grpc.max_connection_age_ms", 20), ("a", "b")),
        ),
        ("--monitoring_config_file=/m", "monitoring_config_file", Path("/m")),
    ],
)
def test_flags_are_read(argument: str, field: str, value: object) -> None:
    assert getattr(parse([BASE, argument]).settings, field) == value


def test_a_value_may_be_the_next_argument() -> None:
    line = parse(["--model_base_path", "/m", "--port", "12", "--enable_batching", "--rest_api_port", "13"])
    assert (line.settings.port, line.settings.rest_api_port) == (12, 13)
    assert line.settings.enable_batching


def test_flags_without_effect_are_named() -> None:
    line = parse([BASE, "--enable_profiler=true", "--num_load_threads=4", "--platform_config_file=/p"])
    assert line.ignored == ("enable_profiler", "num_load_threads", "platform_config_file")


def test_unknown_arguments_are_named_and_do_not_end_the_start() -> None:
    line = parse([BASE, "--frobnicate=3", "stray", "-x"])
    assert line.unknown == ("--frobnicate=3", "stray", "-x")
    assert line.settings.model_base_path == Path("/models/m")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--model_base_path or --model_config_file is required"),
        ([BASE, "--model_name="], "--model_name must not be empty"),
        ([BASE, "--port=x"], "--port cannot be 'x'"),
        ([BASE, "--port=70000"], "--port cannot be '70000'"),
        ([BASE, "--port"], "--port needs a value"),
        ([BASE, "--drain_seconds=inf"], "--drain_seconds cannot be 'inf'"),
        ([BASE, "--drain_seconds=-1"], "--drain_seconds cannot be '-1'"),
        ([BASE, "--per_process_gpu_memory_fraction=2"], "cannot be '2'"),
        ([BASE, "--enable_batching=maybe"], "--enable_batching cannot be 'maybe'"),
        ([BASE, "--grpc_channel_arguments=x"], "--grpc_channel_arguments cannot be 'x'"),
        ([BASE, "--port=0"], "nothing to serve on"),
        ([BASE, "--rest_api_port=8500"], "--rest_api_port cannot be same as --port"),
        ([BASE, "--rest_api_tls"], "--rest_api_tls needs --ssl_config_file"),
        ([BASE, "--batching_parameters_file=/b"], "is set without setting --enable_batching to true"),
        (
            [BASE, "--num_request_iterations_for_warmup=0"],
            "--num_request_iterations_for_warmup cannot be '0'",
        ),
        ([BASE, "--use_tflite_model"], "--use_tflite_model is not supported"),
        (
            [BASE, "--tensorflow_session_parallelism=1", "--tensorflow_intra_op_parallelism=1"],
            "either --tensorflow_session_parallelism",
        ),
    ],
)
def test_what_cannot_be(arguments: list[str], text: str) -> None:
    with pytest.raises(FlagError, match=re.escape(text)):
        parse(arguments)


# Front mode.

FRONT = "--upstream=127.0.0.1:8510"


def test_a_front_needs_no_base_path() -> None:
    settings = parse([FRONT, "--upstream_rest=[::1]:8511", "--model_name=m", "--scoring_output=y"]).settings
    assert (settings.upstream, settings.upstream_rest) == ("127.0.0.1:8510", "[::1]:8511")


@pytest.mark.parametrize("value", ["x", ":1", "x:", "x:0", "x:65536", "x:y"])
def test_addresses(value: str) -> None:
    with pytest.raises(FlagError, match=re.escape(f"--upstream cannot be {value!r}")):
        parse([f"--upstream={value}"])


@pytest.mark.parametrize("name", [name for name, flag in FLAGS.items() if not flag.with_upstream])
def test_what_the_server_behind_decides(name: str) -> None:
    default = getattr(DEFAULTS, name)
    values: dict[type, str] = {bool: str(not default).lower(), int: "7", float: "0.5"}
    words = {"device_engine": "emulator", "device_options": "{}"}
    given = f"--{name}={words.get(name) or values.get(type(default), '/x')}"
    with pytest.raises(FlagError, match=f"--{name} cannot be given together with --upstream"):
        parse([FRONT, given])


def test_what_a_front_takes_though_it_changes_nothing() -> None:
    assert parse([FRONT, "--enable_batching=false", "--enable_profiler=true"]).settings.upstream


def test_the_rest_address_alone_is_no_front() -> None:
    with pytest.raises(FlagError, match="--upstream_rest needs --upstream"):
        parse([BASE, "--upstream_rest=127.0.0.1:1"])


def test_refused_flags_may_be_off() -> None:
    assert parse([BASE, "--use_tflite_model=false"]).unknown == ()


def test_a_socket_alone_is_something_to_serve_on() -> None:
    assert parse([BASE, "--port=0", "--grpc_socket_path=/tmp/s"]).settings.grpc_socket_path == "/tmp/s"


def test_version_needs_nothing_else() -> None:
    assert parse(["--version"]).version


def test_the_usage_has_every_flag_and_its_default() -> None:
    lines = flags.usage().splitlines()[2:]
    assert [line.partition("=")[0] for line in lines] == [f"  --{name}" for name in sorted(FLAGS)]
    assert "  --port=8500" in lines
    assert "  --enable_scoring=true (not of tensorflow_model_server)" in lines
    assert "  --drain_seconds=30 (not of tensorflow_model_server)" in lines


@pytest.mark.parametrize("name", FLAGS)
def test_a_default_is_a_value_of_its_flag(name: str) -> None:
    assert FLAGS[name].parse(flags.spelled_default(name)) == getattr(DEFAULTS, name)


def test_a_flag_is_in_one_table() -> None:
    tables = [set(FLAGS), set(flags.IGNORED), flags.REFUSED]
    assert len(set.union(*map(set, tables))) == sum(map(len, tables))


# Metrics path.


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('prometheus_config { enable: true path: "/x/y" }', "/x/y"),
        ("prometheus_config { enable: true }", METRICS_PATH),
        ('prometheus_config: { enable: false, path: "/x" }', ""),
        ("", ""),
    ],
)
def test_the_monitoring_file(tmp_path: Path, text: str, path: str) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    assert metrics_path(file) == path


def test_without_a_monitoring_file_metrics_are_served() -> None:
    assert metrics_path(None) == METRICS_PATH


@pytest.mark.parametrize("text", ["prometheus_config {", 'prometheus_config { enable: true path: "x" }'])
def test_bad_monitoring_files(tmp_path: Path, text: str) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    with pytest.raises(FlagError, match=re.escape(str(file))):
        metrics_path(file)


def test_an_absent_monitoring_file(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match="cannot be read"):
        metrics_path(tmp_path / "absent")


# CPUs.


@pytest.mark.parametrize(
    ("text", "most"),
    [("50000 100000", 1), ("100000 100000", 1), ("max 100000", 4096), ("junk", 4096), ("1 0", 4096)],
)
def test_cpus_follow_the_containers_limit(tmp_path: Path, text: str, most: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text)
    unlimited = usable_cpus(tmp_path / "absent")
    assert usable_cpus(file) == min(most, unlimited)
