"""Takes out of an installed environment what neither image ever loads; run by install.sh in the build.

Headers, static libraries, typing stubs and test suites serve those who develop against a package. The symbol
tables of shared libraries serve debuggers: the dynamic loader reads the program headers and the segments they
name, and nothing behind them. A crash of TensorFlow prints addresses instead of names; that is the price of a
quarter of its size. NVIDIA's libraries, and the engine beside them, are left as they are: what is taken out
of them could only be judged on a GPU.
"""

from __future__ import annotations

import compileall
import shutil
import struct
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

NEVER_LOADED_FILES = ("*.a", "*.h", "*.hpp", "*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.c")
NEVER_LOADED_FOLDERS = ("tests", "include")
NEVER_LOADED_PATHS = (
    # The asynchronous twin of the Kubernetes client; the operator's requests are its own.
    "kubernetes/aio",
    # The converter to StableHLO and the kernels of XLA's own graph ops: loaded by tools that write models.
    "tensorflow/compiler/mlir/stablehlo/stablehlo_extension.so",
    "tensorflow/compiler/tf2xla/ops/_xla_ops.so",
    "tensorflow/xla_aot_runtime_src",
    # Models that prove another runtime's conformance.
    "onnx/backend/test",
    # Photos are JPEGs or PNGs. These are for AVIF and WebP, for text, for colour profiles and for windows.
    "PIL/_avif.*",
    "PIL/_imagingcms.*",
    "PIL/_imagingft.*",
    "PIL/_imagingtk.*",
    "PIL/_webp.*",
    "pillow.libs/libavif-*",
    "pillow.libs/libbrotli*",
    "pillow.libs/libfreetype-*",
    "pillow.libs/libharfbuzz-*",
    "pillow.libs/liblcms2-*",
    "pillow.libs/libpng16-*",
    "pillow.libs/libsharpyuv-*",
    "pillow.libs/libwebp*",
)
"""Patterns below ``site-packages``."""

# Every API of Kubernetes, mostly docstrings: 36 MB of source, 22 MB of byte code. Byte code without
# docstrings takes the place of the source: 17 MB, and every import still works.
GENERATED_CODE = ("kubernetes/client/api", "kubernetes/client/models")

NVIDIA = "nvidia"
ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
PROGRAM_HEADERS = struct.Struct("<Q")  # e_phoff, at byte 32
PROGRAM_HEADER_COUNT = struct.Struct("<HH")  # e_phentsize and e_phnum, at byte 54
SEGMENT_OFFSET = 8  # p_offset within a program header
SEGMENT_SIZE = 32  # p_filesz within a program header


def main(root: Path) -> None:
    """Trim every ``site-packages`` below a virtual environment.

    Parameters
    ----------
    root:
        The environment's folder.
    """
    for packages in root.glob("lib/python3*/site-packages"):
        if (packages / NVIDIA).is_dir():
            continue
        remove_unused(packages)
        for name in GENERATED_CODE:
            if (packages / name).is_dir():
                keep_byte_code_only(packages / name)
        for library in packages.rglob("*.so*"):
            if library.is_file() and not library.is_symlink():
                drop_symbol_table(library)


def remove_unused(packages: Path) -> None:
    """Delete files and folders that are only of use to developers."""
    unused = [path for pattern in NEVER_LOADED_PATHS for path in packages.glob(pattern)]
    unused += [path for name in NEVER_LOADED_FOLDERS for path in packages.rglob(name) if path.is_dir()]
    unused += [path for pattern in NEVER_LOADED_FILES for path in packages.rglob(pattern)]
    for path in unused:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def keep_byte_code_only(folder: Path) -> None:
    """Put byte code without docstrings in the place of the sources of one folder."""
    unchecked = PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(folder, quiet=1, legacy=True, optimize=2, invalidation_mode=unchecked):
        raise SystemExit(f"{folder} does not compile")
    for source in folder.rglob("*.py"):
        source.unlink()


def drop_symbol_table(library: Path) -> int:
    """Cut a shared library behind its last segment, where the section headers and symbol tables lie.

    Parameters
    ----------
    library:
        A 64-bit little-endian ELF file; anything else stays as it is.

    Returns
    -------
    int
        Bytes saved.
    """
    with library.open("r+b") as file:
        header = bytearray(file.read(64))
        if len(header) < 64 or not header.startswith(ELF64_LITTLE_ENDIAN):
            return 0
        (table_offset,) = PROGRAM_HEADERS.unpack_from(header, 32)
        entry_size, count = PROGRAM_HEADER_COUNT.unpack_from(header, 54)
        file.seek(table_offset)
        table = file.read(entry_size * count)
        end = table_offset + len(table)
        for entry in range(0, len(table), entry_size):
            (offset,) = PROGRAM_HEADERS.unpack_from(table, entry + SEGMENT_OFFSET)
            (size,) = PROGRAM_HEADERS.unpack_from(table, entry + SEGMENT_SIZE)
            end = max(end, offset + size)
        saved = library.stat().st_size - end
        if saved <= 0:
            return 0
        header[40:48] = bytes(8)  # e_shoff: there are no section headers any more
        header[60:64] = bytes(4)  # e_shnum and e_shstrndx
        file.seek(0)
        file.write(header)
        file.truncate(end)
        return int(saved)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
