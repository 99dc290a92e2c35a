from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest

from serval_operator.errors import ConfigurationError
from serval_operator.settings import Settings


def test_nothing_set_means_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"SERVAL_WORKERS": "  ", "OTHER": "x"}) == Settings()


def test_every_variable_is_read() -> None:
    env = {
        "SERVAL_CONFIG_FILE": "/tmp/c.yaml",
        "SERVAL_WATCH_NAMESPACES": "vision, speech,vision,",
        "SERVAL_KINDS": "ModelDeployment, Toy,ModelDeployment,",
        "SERVAL_WORKERS": "3",
        "SERVAL_RESYNC_SECONDS": "60",
        "SERVAL_RELIST_SECONDS": "61.5",
        "SERVAL_REQUEST_TIMEOUT_SECONDS": "7",
        "SERVAL_REQUESTS_IN_FLIGHT": "5",
        "SERVAL_WATCH_TIMEOUT_SECONDS": "120",
        "SERVAL_WATCH_BACKOFFS": "0.1, 2",
        "SERVAL_HIDE_FOREIGN_HOLDERS": "True",
        "SERVAL_CONDITION_METRICS": "true",
        "SERVAL_LEASE_NAME": "serval-operator",
        "SERVAL_LEASE_NAMESPACE": "serval-system",
        "SERVAL_LEASE_SECONDS": "30",
        "SERVAL_START_SECONDS": "9",
        "SERVAL_STOP_GRACE_SECONDS": "0",
        "SERVAL_LOG_LEVEL": "WARNING",
        "SERVAL_LOG_FORMAT": "text",
        "SERVAL_HTTP_HOST": "127.0.0.1",
        "SERVAL_HTTP_PORT": "0",
        "KUBECONFIG": "/tmp/kubeconfig",
    }
    assert Settings.from_environment(env) == Settings(
        config_file=Path("/tmp/c.yaml"),
        watch_namespaces=("vision", "speech"),
        kinds=("ModelDeployment", "Toy"),
        workers=3,
        resync_seconds=60.0,
        relist_seconds=61.5,
        request_timeout_seconds=7.0,
        requests_in_flight=5,
        watch_timeout_seconds=120,
        watch_backoffs=(0.1, 2.0),
        hide_foreign_holders=True,
        condition_metrics=True,
        lease_name="serval-operator",
        lease_namespace="serval-system",
        lease_seconds=30,
        start_seconds=9.0,
        stop_grace_seconds=0.0,
        log_level="warning",
        log_format="text",
        http_host="127.0.0.1",
        http_port=0,
        kubeconfig="/tmp/kubeconfig",
    )
    assert {name.removeprefix("SERVAL_").lower() for name in env} == {
        field.name for field in dataclasses.fields(Settings)
    }


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("WORKERS", "many", "a whole number from 1 to 256"),
        ("WORKERS", "0", "a whole number"),
        ("WORKERS", "-1", "a whole number"),
        ("WORKERS", "1.5", "a whole number"),
        ("RESYNC_SECONDS", "soon", "seconds from 10 to 86400"),
        ("RESYNC_SECONDS", "nan", "seconds from"),
        ("RESYNC_SECONDS", "inf", "seconds from"),
        ("REQUEST_TIMEOUT_SECONDS", "61", "seconds from 1 to 60"),
        ("WATCH_BACKOFFS", "1,,2", "seconds from 0 to 60, separated by commas"),
        ("WATCH_BACKOFFS", "1 2", "separated by commas"),
        ("WATCH_NAMESPACES", "vision,Speech", "names of namespaces"),
        ("HIDE_FOREIGN_HOLDERS", "yes", "true or false"),
        ("LEASE_NAME", "Serval/Operator", "a name of lower-case letters, digits, dashes and dots"),
        ("LEASE_NAME", "a..b", "a name of lower-case"),
        ("LEASE_NAME", ".".join(["a" * 63] * 4), "a name of lower-case"),
        ("LEASE_NAMESPACE", "a.b", "a name of lower-case letters"),
        ("LEASE_SECONDS", "4", "from 5 to 600"),
        ("LEASE_SECONDS", "601", "from 5 to 600"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "one of json, text"),
        ("HTTP_PORT", "65536", "from 0 to 65535"),
    ],
)
def test_a_wrong_value_is_named_with_what_must_hold(name: str, value: str, must: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({f"SERVAL_{name}": value})
    text = str(caught.value)
    assert text.startswith(f"SERVAL_{name}: must be ")
    assert must in text
    assert repr(value) in text
    assert "\n" not in text


@pytest.mark.parametrize("name", ["a.b-c.d", ".".join(["a" * 62] * 4)])
def test_the_name_of_a_release_may_have_dots(name: str) -> None:
    env = {"SERVAL_LEASE_NAME": name, "SERVAL_LEASE_NAMESPACE": "serval-system"}
    assert Settings.from_environment(env).lease_name == name


def test_a_lease_has_a_namespace() -> None:
    with pytest.raises(ConfigurationError, match="SERVAL_LEASE_NAMESPACE: must be set"):
        Settings.from_environment({"SERVAL_LEASE_NAME": "serval-operator"})


def test_every_field_says_why_its_default_is_so() -> None:
    body = ast.parse(inspect.getsource(Settings)).body[0]
    assert isinstance(body, ast.ClassDef)
    documented = {
        first.target.id
        for first, second in zip(body.body, body.body[1:], strict=False)
        if isinstance(first, ast.AnnAssign)
        and isinstance(first.target, ast.Name)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
    }
    assert documented == {field.name for field in dataclasses.fields(Settings)}
