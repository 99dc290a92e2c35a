"""What the build takes out of the images: nothing that is needed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def trim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trim", ROOT / "requirements" / "trim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_library_without_its_symbol_table_still_loads(trim: ModuleType, tmp_path: Path) -> None:
    source = Path(importlib.util.find_spec("multidict._multidict").origin)  # type: ignore[union-attr, arg-type]
    library = tmp_path / source.name
    shutil.copy(source, library)
    size = library.stat().st_size
    saved = trim.drop_symbol_table(library)
    assert saved > 0
    assert library.stat().st_size == size - saved
    assert trim.drop_symbol_table(library) == 0
    program = "import _multidict; print(_multidict.MultiDict([('a', 1)]).getall('a'), _multidict.__file__)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; {program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["[1]", str(library)]


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(100), b"INPUT(libother.so)\n" + bytes(100)]
)
def test_what_is_no_64_bit_library_stays_as_it_is(trim: ModuleType, tmp_path: Path, content: bytes) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(content)
    assert trim.drop_symbol_table(library) == 0
    assert library.read_bytes() == content


def test_developers_files_go_and_the_rest_stays(trim: ModuleType, tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    goes = [
        "tensorflow/include/a.h",
        "numpy/tests/test_a.py",
        "numpy/a.pyi",
        "numpy/lib/libnpymath.a",
        "x/y.c",
    ]
    stays = ["numpy/a.py", "numpy/testing/__init__.py", "x/tests.py", "x-1.dist-info/METADATA", "x/data.json"]
    for name in (*goes, *stays):
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    trim.main(tmp_path)
    left = {path.relative_to(packages).as_posix() for path in packages.rglob("*") if path.is_file()}
    assert left == set(stays)


def test_an_environment_with_nvidias_libraries_is_left_alone(trim: ModuleType, tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("nvidia/cuda_runtime/include/cuda.h", "tensorflow/include/a.h"):
        (packages / name).parent.mkdir(parents=True)
        (packages / name).touch()
    trim.main(tmp_path)
    assert len([path for path in packages.rglob("*") if path.is_file()]) == 2


def test_generated_code_is_kept_as_byte_code_that_imports(trim: ModuleType, tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    models = packages / "kubernetes" / "client" / "models"
    models.mkdir(parents=True)
    for folder in (models, models.parent, models.parent.parent):
        (folder / "__init__.py").touch()
    (models / "pod.py").write_text('"""A pod."""\n\nclass Pod:\n    """One."""\n\n    kind = "Pod"\n')
    trim.main(tmp_path)
    assert not list(models.rglob("*.py"))
    assert (packages / "kubernetes" / "client" / "__init__.py").exists()
    program = "from kubernetes.client.models import pod; print(pod.Pod.kind, pod.Pod.__doc__)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(packages)!r}]; {program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["Pod", "None"]


def test_a_trimmed_pillow_decodes_photos(trim: ModuleType, tmp_path: Path) -> None:
    """A library that Pillow's core needs would be missed at its first import."""
    (packages,) = {Path(path) for path in sys.path if (Path(path) / "PIL").is_dir()}
    copy = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("PIL", "pillow.libs"):
        shutil.copytree(packages / name, copy / name)
    before = size_of(copy)
    trim.main(tmp_path)
    assert size_of(copy) < before * 0.6
    program = f"""
import io, sys
sys.path.insert(0, {str(copy)!r})
from PIL import Image
for kind in ("JPEG", "PNG"):
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (9, 8, 7)).save(file, kind, quality=95)
    with Image.open(file, formats=("JPEG", "PNG")) as image:
        print(kind, image.size)
try:
    Image.open(io.BytesIO(b"GIF89a"), formats=("JPEG", "PNG"))
except Image.UnidentifiedImageError:
    print(Image.__file__)
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["JPEG (4, 3)", "PNG (4, 3)", str(copy / "PIL" / "Image.py")], (
        done.stderr
    )


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
