"""Every argument that the operator renders is one that the real parsers know and understand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from serval_contract import fetch_flags, server_flags
from serval_contract.flags import Flag, Switch
from serval_operator.api.snapshots import parse_owner
from serval_operator.constants import CONTAINER_FETCH, CONTAINER_FRONT, CONTAINER_SERVER
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_serving.fetch.__main__ import read_arguments
from serval_serving.fetch.settings import FetchSettings
from serval_serving.server.flags import CommandLine, parse
from support import gen
from unit.operator.configuration import CONFIGURATION, resolved
from unit.operator.kinds.model_deployment.manifests.cases import CASES, FRONT_CASES, IMAGE_CASES
from unit.operator.rendering import rendered

MODEL = parse_owner(gen.model())
EVERY: dict[str, EffectiveSpec] = {
    **{name: resolved(**spec) for name, spec in CASES.items()},
    **{name: resolved(image_volumes=True, **spec) for name, spec in IMAGE_CASES.items()},
    **{name: resolved(front=True, **spec) for name, spec in FRONT_CASES.items()},
    "tags": resolved(runtime={"args": ["--saved_model_tags=a", "--saved_model_tags=serve,$(x)"]}),
}
ALL = pytest.mark.parametrize("case", EVERY.values(), ids=EVERY.keys())


def arguments(case: EffectiveSpec, container: str) -> list[str]:
    """Arguments of a container as its program gets them; empty if the pod has no such container."""
    pod = rendered(MODEL, case)["spec"]["template"]["spec"]
    every = {one["name"]: one for one in (*pod["initContainers"], *pod["containers"])}
    given: list[str] = every.get(container, {}).get("args", [])
    return [one.replace("$$", "$") for one in given]


def of_the_user(case: EffectiveSpec, given: list[str]) -> list[str]:
    """Which of these arguments the spec or the configuration has verbatim."""
    return [one for one in given if one in (*case.spec.runtime.args, *case.runtime.args)]


@ALL
def test_the_fetcher_understands_what_it_is_told(case: EffectiveSpec) -> None:
    model, credentials = case.model, case.model.credentials
    found, _log = read_arguments(arguments(case, CONTAINER_FETCH))
    assert (found.uri, found.name, found.version) == (model.uri, model.name, model.version)
    assert (found.sha256 or "", found.framework.format.framework) == (model.sha256, model.framework)
    assert found.tags == (
        ("serve", "$(x)") if "--saved_model_tags=a" in case.spec.runtime.args else ("serve",)
    )
    assert (found.max_bytes, found.max_entries) == (case.fetch.max_bytes, case.fetch.max_entries)
    assert found.identity == bool(credentials and credentials.service_account_name)
    assert (found.ca_file is not None) == bool(model.ca_config_map_ref)
    assert (found.image_mount is not None) == case.image_volume
    assert (found.credentials_dir is not None) == bool(
        credentials and credentials.secret_name and not case.image_volume
    )
    assert (found.pin_file is not None) == (model.version is None)
    assert (found.batching and dataclasses.asdict(found.batching)) == (
        case.spec.runtime.batching and dataclasses.asdict(case.spec.runtime.batching)
    )


def test_every_flag_of_the_fetcher_is_rendered_by_a_case() -> None:
    used = {one.partition("=")[0] for case in EVERY.values() for one in arguments(case, CONTAINER_FETCH)}
    assert used == options(fetch_flags)


@ALL
@pytest.mark.parametrize("container", [CONTAINER_SERVER, CONTAINER_FRONT])
def test_the_server_and_the_front_know_every_flag(case: EffectiveSpec, container: str) -> None:
    given = arguments(case, container)
    if not given:
        assert container == CONTAINER_FRONT
        assert case.front is None
        return
    line = parse(given)
    assert set(line.unknown) <= set(of_the_user(case, given))
    assert line.ignored == ()
    assert line.settings.model_name == case.model.name
    assert line.settings.enable_batching == (
        case.spec.runtime.batching is not None and container == CONTAINER_SERVER
    )
    assert bool(line.settings.upstream) == (container == CONTAINER_FRONT)
    _check_endpoint(case, line, container)


def _check_endpoint(case: EffectiveSpec, line: CommandLine, container: str) -> None:
    """What a spec says of its endpoint arrives at the server that has the pod's ports."""
    settings, endpoint = line.settings, case.spec.endpoint
    if endpoint.timeout_seconds:
        assert settings.rest_api_timeout_in_ms == endpoint.timeout_seconds * 1000
    if (container == CONTAINER_FRONT) == (case.front is not None):
        assert settings.max_concurrent_requests == (endpoint.max_concurrent_requests or 0)
    if container == CONTAINER_FRONT:
        assert settings.enable_scoring == case.scores
        assert settings.drain_seconds == case.runtime.grace_seconds


def test_every_flag_of_a_server_is_rendered_by_a_case() -> None:
    given = [one for case in EVERY.values() for name in SERVERS for one in arguments(case, name)]
    assert options(server_flags) <= {one.partition("=")[0] for one in given}


SERVERS = (CONTAINER_SERVER, CONTAINER_FRONT)


def options(flags: Any) -> set[str]:
    return {one.option for one in vars(flags).values() if isinstance(one, Flag | Switch)}


@pytest.mark.parametrize("flag", sorted(options(fetch_flags)))
def test_a_typo_in_a_flag_of_the_fetcher_fails(flag: str) -> None:
    case = next(one for one in EVERY.values() if any(a.startswith(flag) for a in arguments(one, "fetch")))
    given = [one.replace(flag, f"{flag}s", 1) for one in arguments(case, CONTAINER_FETCH)]
    with pytest.raises(SystemExit):
        read_arguments(given)


def test_the_fetcher_has_no_setting_that_the_test_above_forgets() -> None:
    """A new field of the settings needs a line in the comparison, or a reason to stand here."""
    constant = {"dest", "pvc_mount", "max_seconds", "cache"}
    compared = {
        *("uri", "name", "version", "sha256", "framework", "max_bytes", "max_entries"),
        *("identity", "ca_file", "image_mount", "credentials_dir", "pin_file", "batching", "tags"),
    }
    assert {one.name for one in dataclasses.fields(FetchSettings)} == constant | compared
    assert CONFIGURATION.fetch.cache_url.startswith("http://")
