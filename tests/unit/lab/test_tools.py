from __future__ import annotations

from pathlib import Path

import pytest

from serval_lab.tools import environment
from unit.lab.contexts import context


def test_tools_find_the_lab_and_keep_what_they_learn_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/of/another/cluster")
    monkeypatch.setenv("NO_PROXY", "example.com")
    lab = context(tmp_path)
    found = environment(lab)
    assert found["KUBECONFIG"] == str(lab.folder.kubeconfig)
    assert found["PATH"].startswith(str(tmp_path / "assets"))
    assert found["NO_PROXY"] == "example.com,127.0.0.1,127.0.0.1"
    caches = ("KUBECACHEDIR", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
    assert all(Path(found[name]).is_relative_to(lab.folder.path) for name in caches)
    assert len({found[name] for name in caches}) == len(caches)
