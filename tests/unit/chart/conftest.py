"""The chart, ready to be rendered, and what it renders by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.chart.rendering import Chart, Manifest


@pytest.fixture(scope="session")
def chart(helm: Path) -> Chart:
    return Chart(helm)


@pytest.fixture(scope="session")
def rendered(chart: Chart) -> list[Manifest]:
    return chart.render()
