"""What is believed of the fetch container's report: no more than the CRD's status can store."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_contract.report import FetchReport, Tensor
from serval_operator.api.snapshots import PodView, parse_pod
from serval_operator.pods.pod_state import fetch_result
from support import gen

pytestmark = pytest.mark.unit

TENSOR = {"name": "images", "dtype": "DT_STRING", "shape": [-1]}
FULL_TENSOR = {"name": "x" * 512, "dtype": "x" * 64, "shape": [2**53 - 1] * 64}


def view(*options: gen.Option) -> PodView:
    return parse_pod(gen.pod("digits-1", *options))


def result(**report: Any) -> FetchReport | None:
    return fetch_result(view(gen.fetched(**report)))


class TestFetchResult:
    def test_whole(self) -> None:
        scalar = {"name": "n", "dtype": "DT_INT64", "shape": []}
        open_rank = {"name": "any", "dtype": "DT_FLOAT", "shape": None}
        assert result(inputs=[TENSOR, scalar], outputs=[open_rank]) == FetchReport(
            version=3,
            digest=gen.DIGEST,
            size=752_000,
            seconds=2.5,
            inputs=(Tensor("images", "DT_STRING", (-1,)), Tensor("n", "DT_INT64", ())),
            outputs=(Tensor("any", "DT_FLOAT", None),),
        )

    @pytest.mark.parametrize(
        "option",
        [gen.starting(), gen.fetch_running(), gen.fetch_failed(1, "{}"), gen.fetched(ok=False)],
        ids=["starting", "running", "failed", "not ok"],
    )
    def test_none(self, option: gen.Option) -> None:
        assert fetch_result(view(option)) is None

    def test_none_of_one_that_failed_whatever_it_says(self) -> None:
        told = json.dumps({"serval": "fetch", "ok": True, "version": 3})
        assert fetch_result(view(gen.fetch(gen.ended(1, told)))) is None

    @pytest.mark.parametrize("text", ["", "fetched", "[1]", '{"serval": "other", "ok": true}', "[" * 4096])
    def test_none_of_foreign_words(self, text: str) -> None:
        assert fetch_result(view(gen.fetch(gen.ended(0, text, "Completed")))) is None

    @pytest.mark.parametrize(
        ("report", "field", "value"),
        [
            ({"version": "3"}, "version", None),
            ({"version": True}, "version", None),
            ({"version": -1}, "version", None),
            ({"version": 2**53}, "version", None),
            ({"version": 0}, "version", 0),
            ({"digest": "md5:0"}, "digest", ""),
            ({"digest": None}, "digest", ""),
            ({"bytes": "1"}, "size", None),
            ({"bytes": -1}, "size", None),
            ({"bytes": 0}, "size", 0),
            ({"seconds": "1"}, "seconds", None),
            ({"seconds": -1}, "seconds", None),
            ({"seconds": float("nan")}, "seconds", None),
            ({"seconds": float("inf")}, "seconds", None),
            ({"seconds": 10**400}, "seconds", None),
            ({"seconds": 2}, "seconds", 2.0),
            ({"seconds": 0}, "seconds", 0.0),
            ({"version": 2**53 - 1}, "version", 2**53 - 1),
            (
                {"inputs": [FULL_TENSOR] * 128},
                "inputs",
                (Tensor("x" * 512, "x" * 64, (2**53 - 1,) * 64),) * 128,
            ),
            ({"inputs": TENSOR}, "inputs", None),
            ({"inputs": [TENSOR, "x"]}, "inputs", None),
            ({"inputs": [TENSOR] * 129}, "inputs", None),
            ({"inputs": [{**TENSOR, "shape": ["x"]}]}, "inputs", None),
            ({"inputs": [{**TENSOR, "shape": [None]}]}, "inputs", None),
            ({"inputs": [{**TENSOR, "shape": [-2]}]}, "inputs", None),
            ({"inputs": [{**TENSOR, "shape": [1] * 65}]}, "inputs", None),
            ({"inputs": [{**TENSOR, "shape": 1}]}, "inputs", None),
            ({"inputs": [{**TENSOR, "name": "x" * 513}]}, "inputs", None),
            ({"inputs": [{**TENSOR, "name": "\ud800"}]}, "inputs", None),
            ({"inputs": [{**TENSOR, "dtype": "x" * 65}]}, "inputs", None),
            ({"inputs": [{"name": "x"}]}, "inputs", None),
        ],
    )
    def test_what_the_status_could_not_store_is_dropped(
        self, report: dict[str, Any], field: str, value: object
    ) -> None:
        whole = result(**report)
        assert whole is not None
        assert getattr(whole, field) == value

    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
    def test_no_report_makes_it_fail(self, value: Any) -> None:
        report = {"serval": "fetch", "ok": True, **dict.fromkeys(("version", "digest", "seconds"), value)}
        text = json.dumps({**report, "inputs": value, "outputs": [value]})
        assert fetch_result(view(gen.fetch(gen.ended(0, text, "Completed")))) is not None
