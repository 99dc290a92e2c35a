from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from serval_serving.models.config import ModelConfig, check_platforms, parse_config, read_models
from serval_serving.models.versions import All, Latest, Specific
from serval_serving.wire.status import StatusError


def read(text: str) -> tuple[ModelConfig, ...]:
    return read_models(parse_config(f"model_config_list {{ {text} }}").model_config_list.config)


def test_everything() -> None:
    first, second = read(
        """
        config {
          name: "a" base_path: "/models/a" model_platform: "tensorflow"
          model_version_policy { specific { versions: 1 versions: 3 } }
          version_labels { key: "stable" value: 1 }
          version_labels { key: "canary" value: 3 }
          logging_config {
            log_collector_config { type: "x" filename_prefix: "y" } sampling_config { sampling_rate: 0.5 }
          }
        }
        config { name: "b" base_path: "/models/b" model_type: TENSORFLOW }
        """
    )
    assert first == ModelConfig(
        "a", Path("/models/a"), "tensorflow", Specific(frozenset({1, 3})), {"stable": 1, "canary": 3}
    )
    assert second == ModelConfig("b", Path("/models/b"))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Latest(1)),
        ("model_version_policy { latest { } }", Latest(1)),
        ("model_version_policy { latest { num_versions: 2 } }", Latest(2)),
        ("model_version_policy { all { } }", All()),
        ("model_version_policy: { specific: { versions: [1, 2] } }", Specific(frozenset({1, 2}))),
    ],
)
def test_policies(text: str, policy: object) -> None:
    (model,) = read(f'config {{ name: "a" base_path: "/a" model_platform: "tensorflow" {text} }}')
    assert model.policy == policy


def test_onnx_is_a_platform() -> None:
    (model,) = read('config { name: "a" base_path: "/a" model_platform: "onnx" }')
    assert model.platform == "onnx"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('base_path: "/a" model_platform: "tensorflow"', "a model in the config list has no name"),
        (
            'name: "a" base_path: "a" model_platform: "tensorflow"',
            "Expected model a to have an absolute path or URI; got base_path()=a",
        ),
        ('name: "a" base_path: "gs://b" model_platform: "tensorflow"', "base_path()=gs://b of model a"),
        (
            'name: "a" base_path: "/a"',
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor",
        ),
        (
            'name: "a" base_path: "/a" model_type: TENSORFLOW model_platform: "tensorflow"',
            "Illegal setting both ModelServerConfig::model_type (deprecated) and",
        ),
        ('name: "a" base_path: "/a" model_platform: "torch"', "Model a requests unsupported platform torch"),
        ('name: "a" base_path: "/a" model_type: OTHER', "Model a requests unsupported platform other"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(StatusError) as caught:
        read(f"config {{ {text} }}")
    assert caught.value.code.name == "INVALID_ARGUMENT"
    assert caught.value.message.startswith(words)


def test_a_name_twice() -> None:
    one = 'config { name: "a" base_path: "/a" model_platform: "tensorflow" }'
    with pytest.raises(StatusError, match="Illegal to list model a multiple times in config list"):
        read(one + one)


def test_a_field_that_there_is_not() -> None:
    with pytest.raises(text_format.ParseError):
        parse_config("model_config_list { config { nmae: 'a' } }")


def test_a_platform_that_changes() -> None:
    old = (ModelConfig("a", Path("/a")), ModelConfig("b", Path("/b")))
    check_platforms(old, (ModelConfig("a", Path("/x")), ModelConfig("c", Path("/c"), "onnx")))
    with pytest.raises(StatusError) as caught:
        check_platforms(old, (ModelConfig("a", Path("/a"), "onnx"),))
    assert caught.value.message == (
        "Illegal to change a model's platform. For model a platform was tensorflow and new platform "
        "requested is onnx"
    )


def test_versions_that_are_named_and_there() -> None:
    assert Specific(frozenset({3, 1, 9})).select([1, 2, 3]) == [1, 3]
    assert All().select([3, 1]) == [1, 3]
