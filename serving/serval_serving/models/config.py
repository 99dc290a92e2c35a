"""Which models to serve: TensorFlow Serving's ModelServerConfig, checked with its words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf import text_format

from serval_serving.models.versions import All, Latest, Specific, VersionPolicy
from serval_serving.wire import messages
from serval_serving.wire.status import StatusError, invalid

TENSORFLOW: Final = "tensorflow"
ONNX: Final = "onnx"
PLATFORMS: Final = frozenset({TENSORFLOW, ONNX})
"""What `model_platform` may be. Which engine loads a version, its files decide."""

BOTH_PLATFORMS: Final = (
    "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
)
NO_PLATFORM: Final = (
    "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
    "ModelServerConfig::model_platform."
)
_TYPE_UNSPECIFIED: Final = 0
_TYPE_TENSORFLOW: Final = 1


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model.

    Attributes
    ----------
    name:
        Its name in requests.
    base_path:
        The folder of its version folders.
    platform:
        What its files are for.
    policy:
        Which versions serve.
    labels:
        Names for versions.
    """

    name: str
    base_path: Path
    platform: str = TENSORFLOW
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)


def parse_config(text: str) -> messages.ModelServerConfig:
    """Read a text proto.

    Raises
    ------
    text_format.ParseError
        It is none.
    """
    return text_format.Parse(text, messages.ModelServerConfig())


def read_models(configs: Iterable[messages.ModelConfig]) -> tuple[ModelConfig, ...]:
    """Read and check a list of models.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: a name is missing or stands twice, or a platform or path cannot be used.
    """
    models: dict[str, ModelConfig] = {}
    for config in configs:
        if not config.name:
            raise invalid("a model in the config list has no name")
        if config.name in models:
            raise invalid(f"Illegal to list model {config.name} multiple times in config list")
        models[config.name] = ModelConfig(
            name=config.name,
            base_path=_base_path(config),
            platform=_platform(config),
            policy=_policy(config.model_version_policy),
            labels=dict(config.version_labels),
        )
    return tuple(models.values())


def check_platforms(old: Iterable[ModelConfig], new: Iterable[ModelConfig]) -> None:
    """Check that no model changes its platform.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: one does.
    """
    before = {model.name: model.platform for model in old}
    for model in new:
        platform = before.get(model.name, model.platform)
        if platform != model.platform:
            raise invalid(
                f"Illegal to change a model's platform. For model {model.name} platform was {platform} and "
                f"new platform requested is {model.platform}"
            )


def _base_path(config: messages.ModelConfig) -> Path:
    """Read a base path, which must be absolute."""
    if "://" in config.base_path:
        raise invalid(f"base_path()={config.base_path} of model {config.name} is in no file system")
    if not config.base_path.startswith("/"):
        raise invalid(
            f"Expected model {config.name} to have an absolute path or URI; "
            f"got base_path()={config.base_path}"
        )
    return Path(config.base_path)


def _platform(config: messages.ModelConfig) -> str:
    """Read a platform, or the type that was its name in old times."""
    platform = config.model_platform
    if config.model_type != _TYPE_UNSPECIFIED:
        if platform:
            raise invalid(BOTH_PLATFORMS)
        platform = TENSORFLOW if config.model_type == _TYPE_TENSORFLOW else "other"
    if not platform:
        raise invalid(NO_PLATFORM)
    if platform not in PLATFORMS:
        raise _unsupported(config.name, platform)
    return platform


def _policy(policy: messages.FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> VersionPolicy:
    """Read a version policy; the latest version is what serves without one."""
    if policy.HasField("all"):
        return All()
    if policy.HasField("specific"):
        return Specific(frozenset(policy.specific.versions))
    return Latest(policy.latest.num_versions or 1)


def _unsupported(name: str, platform: str) -> StatusError:
    return invalid(f"Model {name} requests unsupported platform {platform}")
