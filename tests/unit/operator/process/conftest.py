from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.operator import CONFIGURATION


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIGURATION))
    return path
