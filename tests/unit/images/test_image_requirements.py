"""The pins of the images are the closure of what pyproject.toml asks for, and agree with each other."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
# Dependencies of the client, which is in neither the operator nor the fetcher.
CLIENT_ONLY = {"numpy", "grpcio", "protobuf"}
# What packages declare, and the images need not have; see tensorflow-cpu.txt and converter.txt.
LEFT_OUT = {
    "tensorflow-cpu": {"keras", "h5py", "libclang", "setuptools", "google-pasta"},
    "astunparse": {"wheel"},
    "rich": {"pygments", "markdown-it-py"},
}
CONVERTER = ("server.txt", "tensorflow-cpu.txt", "onnx-cpu.txt", "converter.txt")


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
        (("operator.txt",), ("operator", "fetch")),
        (("server.txt", "tensorflow-cpu.txt"), ("serving",)),
        (("server.txt", "tensorflow-gpu.txt"), ("serving",)),
        (("server.txt", "onnx-cpu.txt"), ("serving", "onnx")),
        (CONVERTER, ("serving", "onnx", "accel")),
    ],
)
def test_every_declared_dependency_is_pinned_within_its_range(
    files: tuple[str, ...], extras: tuple[str, ...]
) -> None:
    pinned = {package: version for name in files for package, version in pins(name).items()}
    for requirement in declared(*extras):
        if "operator" in extras and requirement.name in CLIENT_ONLY:
            continue
        package = canonicalize_name(requirement.name)
        version = pinned.get(package) or pinned.get(f"{package}-cpu")
        assert version is not None, f"{requirement.name} is missing from {files}"
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


@pytest.mark.parametrize(
    "files",
    [
        ("operator.txt",),
        ("server.txt", "tensorflow-cpu.txt"),
        ("server.txt", "onnx-cpu.txt"),
        CONVERTER,
    ],
)
def test_pins_are_a_closure(files: tuple[str, ...]) -> None:
    pinned = {package: version for name in files for package, version in pins(name).items()}
    for package in pinned:
        for text in importlib.metadata.requires(package) or []:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if name in LEFT_OUT.get(package, ()):
                continue
            assert name in pinned, f"{package} needs {requirement}, which {files} lack"
            assert requirement.specifier.contains(pinned[name]), f"{package} needs {requirement}"


def test_layers_of_one_image_agree_on_versions() -> None:
    server, tensorflow, onnx = (pins(name) for name in ("server.txt", "tensorflow-cpu.txt", "onnx-cpu.txt"))
    for first, second in ((server, tensorflow), (tensorflow, onnx), (server, pins("tensorflow-gpu.txt"))):
        shared = first.keys() & second.keys()
        assert shared
        assert {package: first[package] for package in shared} == {
            package: second[package] for package in shared
        }


def test_the_converter_adds_to_the_server_and_repeats_nothing() -> None:
    below = {package for name in CONVERTER[:-1] for package in pins(name)}
    assert not pins("converter.txt").keys() & below, "a package of two layers is pulled twice"


@pytest.mark.parametrize(
    ("engine", "for_cpus", "for_gpus"),
    [("tensorflow", "tensorflow-cpu", "tensorflow"), ("onnx", "onnxruntime", "onnxruntime-gpu")],
)
def test_the_gpu_variant_is_the_cpu_variant_with_cuda(engine: str, for_cpus: str, for_gpus: str) -> None:
    cpu, gpu = pins(f"{engine}-cpu.txt"), pins(f"{engine}-gpu.txt")
    version = cpu.pop(for_cpus)
    assert gpu.pop(for_gpus) == version
    cuda = {package for package in gpu if package.startswith("nvidia-")}
    assert cuda
    assert {package: version for package, version in gpu.items() if package not in cuda} == cpu


def test_the_operator_image_has_what_it_imports_and_not_what_only_clients_need() -> None:
    # kopf takes pykube-ng where it finds it, and oauthlib blinker; the image has neither. Namespace packages
    # have no file.
    program = (
        "import sys; sys.modules['pykube'] = sys.modules['blinker'] = None;"
        "import serval_operator.__main__, serval_serving.fetch.__main__, serval_serving.fetch.stores.s3;"
        "print(*{n.partition('.')[0] for n, m in sys.modules.items() if getattr(m, '__file__', None)})"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    packages = importlib.metadata.packages_distributions()
    used = {
        canonicalize_name(distribution)
        for module in done.stdout.split()
        for distribution in packages.get(module, [])
    }
    pinned = pins("operator.txt").keys()
    assert {"kopf", "kubernetes", "urllib3"} <= used
    # setuptools and serval itself are what makes the development environment an editable one.
    assert used - {"serval", "setuptools"} <= pinned
    assert not pinned & {*CLIENT_ONLY, "tensorflow", "tensorflow-cpu", "keras"}
