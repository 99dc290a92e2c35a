"""The contract needs nothing but the standard library, so that any program can import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3] / "contract"
MODULES = sorted(
    f"serval_contract.{path.stem}"
    for path in (ROOT / "serval_contract").glob("*.py")
    if path.stem != "__init__"
)


def test_every_module_comes_without_other_packages() -> None:
    assert MODULES
    program = f"import sys; sys.path.append({str(ROOT)!r}); import {', '.join(MODULES)}"
    # -I -S: neither the environment's paths nor site-packages.
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, timeout=60)
