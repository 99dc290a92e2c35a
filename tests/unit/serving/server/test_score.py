"""`/score`, and a server with small limits, from live servers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.serving.server.processes import REAL, Server, running
from unit.serving.server.rest_calls import METRICS, ask

# /score.


@pytest.mark.parametrize("content_type", [None, "application/json", "image/jpeg", "application/octet-stream"])
def test_score_answers_the_second_output_whatever_the_content_type(
    zoo: Server, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    reply = zoo.http.request("POST", zoo.url("/score"), body=b"\xff\xd8jpg!", headers=headers)
    assert reply.status == 200
    assert json.loads(reply.data) == [[6.0, 3.0, 1.5]]


def test_score_takes_a_key_in_any_spelling(zoo: Server) -> None:
    reply = zoo.post("/score", b"abcd", Authorization="Bearer x")
    assert reply.status == 200


def test_score_refuses_get_with_the_words_of_the_script(zoo: Server) -> None:
    reply = zoo.get("/score")
    assert (reply.status, reply.data) == (405, b"GET is not supported")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_score_refuses_other_methods_with_the_words_of_the_script(zoo: Server, method: str) -> None:
    reply = zoo.http.request(method, zoo.url("/score"), body=b"x")
    assert (reply.status, reply.data) == (500, b"bad request")


@pytest.fixture(scope="module")
def pair(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model with two inputs, with small limits and metrics elsewhere."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "monitoring").write_text('prometheus_config { enable: true path: "/my/metrics" }')
    flags = (
        "--model_name=pair",
        f"--model_base_path={models / 'pair'}",
        f"--monitoring_config_file={folder / 'monitoring'}",
        "--rest_api_max_body_bytes=1000",
    )
    with running(Server(REAL, folder / "log", *flags)) as server:
        yield server.wait_ready()


def test_a_model_with_two_inputs_serves_and_only_score_refuses(pair: Server) -> None:
    status, reply = ask(pair, {"inputs": {"a": [1], "b": [2]}}, "/v1/models/pair:predict")
    assert (status, reply) == (200, {"outputs": [3.0]})
    status, reply = ask(pair, b"abc", "/score")
    assert status == 400
    assert "this one has 2: a, b" in reply["error"]


def test_metrics_stand_where_the_configuration_says(pair: Server) -> None:
    assert pair.get("/my/metrics").status == 200
    assert pair.get(METRICS).status == 404


def test_bodies_have_a_limit(pair: Server) -> None:
    status, reply = ask(pair, b"x" * 1001, "/v1/models/pair:predict")
    assert (status, reply) == (413, {"error": "The body is larger than 1000 bytes."})
    bomb = gzip.compress(b"x" * 10_000_000)
    compressed = pair.http.request(
        "POST", pair.url("/v1/models/pair:predict"), body=bomb[:1000], headers={"Content-Encoding": "gzip"}
    )
    assert compressed.status in {400, 413}


@pytest.fixture(scope="module")
def silent(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without /score."""
    folder = tmp_path_factory.mktemp("silent")
    flags = ("--model_name=zoo", f"--model_base_path={models / 'zoo'}", "--enable_scoring=false")
    with running(Server(REAL, folder / "log", *flags)) as server:
        yield server.wait_ready()


def test_score_can_be_turned_off(silent: Server) -> None:
    assert silent.post("/score", b"abcd").status == 404
    assert silent.get("/v1/models/zoo").status == 200
