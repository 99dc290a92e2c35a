"""The pins of the images are the closure of what pyproject.toml asks for, and agree with each other."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
# What TensorFlow declares, and neither import nor the session loader needs; see tensorflow-cpu.txt.
LEFT_OUT = {"keras", "h5py", "libclang", "setuptools", "wheel", "google-pasta"}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {}
    for requirement in requirements:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{name}: {requirement} is no exact version"
        versions[canonicalize_name(requirement.name)] = specifier.version
    assert len(versions) == len(requirements), f"{name} names a package twice"
    return versions


def declared(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(text) for one in lists for text in one]


@pytest.mark.parametrize(
    ("files", "extras"),
    [
        (("operator.txt",), ("operator",)),
        (("server.txt", "tensorflow-cpu.txt"), ("serving",)),
        (("server.txt", "tensorflow-gpu.txt"), ("serving",)),
    ],
)
def test_every_declared_dependency_is_pinned_within_its_range(
    files: tuple[str, ...], extras: tuple[str, ...]
) -> None:
    pinned = {package: version for name in files for package, version in pins(name).items()}
    for requirement in declared(*extras):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is missing from {files}"
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


@pytest.mark.parametrize("files", [("operator.txt",), ("server.txt", "tensorflow-cpu.txt")])
def test_pins_are_a_closure(files: tuple[str, ...]) -> None:
    pinned = {package: version for name in files for package, version in pins(name).items()}
    for package in pinned:
        for text in importlib.metadata.requires(package) or []:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if name in LEFT_OUT:
                continue
            assert name in pinned, f"{package} needs {requirement}, which {files} lack"
            assert requirement.specifier.contains(pinned[name]), f"{package} needs {requirement}"


def test_layers_of_one_image_agree_on_versions() -> None:
    server = pins("server.txt")
    for name in ("tensorflow-cpu.txt", "tensorflow-gpu.txt"):
        tensorflow = pins(name)
        shared = server.keys() & tensorflow.keys()
        assert shared
        assert {package: server[package] for package in shared} == {
            package: tensorflow[package] for package in shared
        }


def test_the_gpu_variant_is_the_cpu_variant_with_cuda() -> None:
    cpu, gpu = pins("tensorflow-cpu.txt"), pins("tensorflow-gpu.txt")
    version = cpu.pop("tensorflow-cpu")
    assert gpu.pop("tensorflow") == version
    cuda = {package for package in gpu if package.startswith("nvidia-")}
    assert cuda
    assert {package: version for package, version in gpu.items() if package not in cuda} == cpu


def test_neither_tensorflow_nor_keras_is_in_the_operator_image() -> None:
    assert not {package for package in pins("operator.txt") if "tensorflow" in package or "keras" in package}
