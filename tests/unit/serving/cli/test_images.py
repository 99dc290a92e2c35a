"""``serval images`` against a registry and an API server of the test."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from serval_serving.artifacts import image as names
from serval_serving.artifacts.client import RegistryClient, Settings
from serval_serving.artifacts.folder import bytes_file
from serval_serving.artifacts.image import Image, make_image
from serval_serving.artifacts.layer import make_layer
from serval_serving.artifacts.push import Pusher
from serval_serving.cli import main
from serval_serving.cli.usage import KINDS, Usage, pod_images
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.safety.address_policy import AddressPolicy
from support.ports import free_port
from support.push_registry import PushRegistry, User, pushable
from unit.serving.client.servers import RestSite, rest_server

Capture = pytest.CaptureFixture[str]
LISTS = {
    "Pod": "/api/v1/{}pods",
    "Deployment": "/apis/apps/v1/{}deployments",
    "ControllerRevision": "/apis/apps/v1/{}controllerrevisions",
    "ModelDeployment": "/apis/serval.dev/v1alpha1/{}modeldeployments",
    "AcceleratedModel": "/apis/serval.dev/v1alpha1/{}acceleratedmodels",
}
FORBIDDEN = (403, {"kind": "Status", "code": 403, "message": "forbidden"})


class World:
    """A registry with images, and a cluster."""

    def __init__(self, registry: PushRegistry, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.api = RestSite()
        for kind in LISTS:
            self.has(kind)

    def has(self, kind: str, *objects: dict[str, Any]) -> None:
        self.api.answer(LISTS[kind].format(""), (200, {"kind": f"{kind}List", "items": list(objects)}))

    def hides(self, kind: str, *, own: bool = False) -> None:
        """Forbid to list a kind in all namespaces; also in the own one, if `own`."""
        self.api.answer(LISTS[kind].format(""), FORBIDDEN)
        inside = FORBIDDEN if own else (200, {"items": []})
        self.api.answer(LISTS[kind].format("namespaces/vision/"), inside)

    def push(
        self, repository: str, *tags: str, day: int = 1, of_serval: bool = True, log: bytes = b""
    ) -> Image:
        notes = {names.CREATED: f"2026-01-{day:02}T00:00:00Z", names.NETWORK: "VGG16"}
        notes[names.SOURCE_DIGEST] = "sha256:" + "5" * 64
        report = [bytes_file("conversion.json", json.dumps({"report": {"cosine": 0.5, "day": day}}).encode())]
        report += [bytes_file("conversion.log", log)] if log else []
        layers = [make_layer([bytes_file("device.onnx", b"w" * day * 1000)]), make_layer(report)]
        image = make_image(layers, notes, names.ARTIFACT_TYPE if of_serval else "application/x")
        settings = Settings(None, None, True, 60.0, Environment(policy=AddressPolicy(())))
        for tag in tags:
            Pusher(RegistryClient(self.registry.host, settings), repository).push(image, tag)
        return image

    def run(self, command: str, *arguments: str, cluster: bool = False) -> int:
        options = ["--plain-http", *(["--kubeconfig", str(self.folder / "kubeconfig")] if cluster else [])]
        return main(
            ["images", command, *(one.replace("HOST", self.registry.host) for one in arguments), *options]
        )

    def tags(self, repository: str) -> set[str]:
        held = {tag for name, tag in self.registry.manifests if name == repository}
        return {tag for tag in held if not tag.startswith("sha256:")}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
    with ExitStack() as stack:
        made = World(stack.enter_context(pushable(PushRegistry(), None)), tmp_path)
        url = stack.enter_context(rest_server(made.api))
        content = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "vision"}}],
            "current-context": "x",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
        yield made


def pod(name: str, image: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "vision", "labels": labels},
        "spec": {"containers": [{"image": "h/server:1"}], "volumes": [{"image": {"reference": image}}]},
    }


def test_list(world: World, capsys: Capture) -> None:
    old = world.push("serval/a", "v1", day=1)
    new = world.push("serval/a", "v2", "latest", day=2)
    world.push("serval/b", "v1", day=3, of_serval=False)
    world.push("other", "v1")
    assert world.run("list", "HOST/serval") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "DIGEST", "SIZE", "DATE", "NETWORK", "SOURCE"]
    host = world.registry.host
    assert [line.split()[:3] for line in lines[1:]] == [
        [f"{host}/serval/a", "latest,v2", new.digest[:19]],
        [f"{host}/serval/a", "v1", old.digest[:19]],
        [f"{host}/serval/b", "v1", lines[3].split()[2]],
    ]
    assert "2026-01-02T00:00:00Z   VGG16     sha256:555555555555" in lines[1]
    assert world.run("list", "HOST/serval/a", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["digest"] for one in found] == [new.digest, old.digest]
    assert found[1] == {
        "repository": f"{host}/serval/a",
        "tags": ["v1"],
        "digest": old.digest,
        "bytes": old.size,
        "created": "2026-01-01T00:00:00Z",
        "network": "VGG16",
        "sourceDigest": "sha256:" + "5" * 64,
        "artifactType": names.ARTIFACT_TYPE,
        "annotations": found[1]["annotations"],
    }
    assert world.run("list", "HOST", "--digests") == 0
    assert new.digest in capsys.readouterr().out


def test_log(world: World, capsys: Capture) -> None:
    world.push("a", "quiet")
    world.push("a", "v1", day=2, log=b"first\x1b[31m line\nsecond\n")
    assert world.run("log", "HOST/a:v1") == 0
    assert capsys.readouterr().out == "first[31m line\nsecond\n"
    assert world.run("log", "HOST/a:quiet") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["REPORT", "VALUE"],
        ["cosine", "0.5"],
        ["day", "1"],
    ]
    assert world.run("log", "HOST/a:v1", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["report"] == {"cosine": 0.5, "day": 2}
    assert shown["log"].startswith("first")
    world.push("b", "v1", of_serval=False)
    assert world.run("log", "HOST/b:v1") == 4
    assert "not made by Serval" in capsys.readouterr().err


def named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "vision"}}


USERS: dict[str, Callable[[World, Image], None]] = {
    "Pod vision/p": lambda world, image: world.has("Pod", pod("p", f"HOST/a@{image.digest}")),
    "Pod vision/q": lambda world, _: world.has("Pod", pod("q", f"{world.registry.host}/a:v1")),
    "Deployment vision/d": lambda world, image: world.has(
        "Deployment",
        {
            "metadata": {"name": "d", "namespace": "vision"},
            "spec": {"template": pod("d", f"x@{image.digest}")},
        },
    ),
    "ControllerRevision vision/r": lambda world, image: world.has(
        "ControllerRevision",
        {
            "metadata": {"name": "r", "namespace": "vision"},
            "data": {"text": json.dumps({"image": image.digest})},
        },
    ),
    "ModelDeployment vision/m": lambda world, _: world.has(
        "ModelDeployment",
        named("m") | {"spec": {"model": {"uri": f"oci://{world.registry.host}/a:v1"}}},
    ),
    "AcceleratedModel vision/m": lambda world, image: world.has(
        "AcceleratedModel",
        named("m") | {"status": {"artifact": {"folder": image.digest.replace(":", "-")}}},
    ),
}


@pytest.mark.parametrize("user", USERS)
def test_what_is_in_use_is_not_deleted(world: World, capsys: Capture, user: str) -> None:
    image = world.push("a", "v1", "v2")
    USERS[user](world, image)
    for reference in ("HOST/a:v2", f"HOST/a@{image.digest}"):
        assert world.run("delete", reference, cluster=True) == 1
        assert f"is in use and stays: {user}" in capsys.readouterr().err
    assert world.tags("a") == {"v1", "v2"}
    for kind in KINDS:
        world.has(kind)
    assert world.run("delete", "HOST/a:v2", cluster=True) == 0
    assert capsys.readouterr().out == f"deleted {world.registry.host}/a@{image.digest} (tags: v1, v2)\n"
    assert world.tags("a") == set()


def test_kinds_are_those_that_are_listed() -> None:
    assert set(KINDS) == set(LISTS) == {user.split()[0] for user in USERS}


def test_delete_says_what_it_could_not_see(world: World, capsys: Capture) -> None:
    world.push("a", "v1")
    world.hides("Pod")
    world.hides("Deployment", own=True)
    world.api.answer(LISTS["AcceleratedModel"].format(""), (404, {"kind": "Status", "code": 404}))
    assert world.run("delete", "HOST/a:v1", cluster=True) == 0
    assert capsys.readouterr().err.splitlines() == [
        "serval: Pods outside namespace vision cannot be seen: images may be in use there",
        "serval: Deployments in any namespace cannot be seen: images may be in use there",
    ]
    assert world.tags("a") == set()


def test_own_namespace_is_looked_at_where_others_are_hidden(world: World, capsys: Capture) -> None:
    image = world.push("a", "v1")
    world.hides("Pod")
    inside = LISTS["Pod"].format("namespaces/vision/")
    world.api.answer(inside, (200, {"items": [pod("p", image.digest)]}))
    assert world.run("delete", "HOST/a:v1", cluster=True) == 1
    assert "Pod vision/p" in capsys.readouterr().err
    assert world.tags("a") == {"v1"}


def test_cluster_that_fails_deletes_nothing(world: World, capsys: Capture) -> None:
    world.push("a", "v1")
    world.api.answer(LISTS["Pod"].format(""), (500, b"oops"))
    assert world.run("delete", "HOST/a:v1", cluster=True) == 3
    assert "500" in capsys.readouterr().err
    assert world.tags("a") == {"v1"}
    assert world.run("delete", "HOST/a:v1", "--no-cluster") == 0
    assert world.tags("a") == set()


def test_prune(world: World, capsys: Capture) -> None:
    images = {day: world.push("serval/a", f"v{day}", day=day) for day in (1, 2, 3, 4)}
    world.push("serval/a", "base", day=5, of_serval=False)
    world.push("serval/b", "v1", day=1)
    world.has("Pod", pod("p", images[1].digest))
    assert world.run("prune", "HOST/serval", "--keep=1", "--dry-run", cluster=True) == 0
    assert world.tags("serval/a") == {"v1", "v2", "v3", "v4", "base"}
    results = {tuple(line.split()[0:2]): line for line in capsys.readouterr().out.splitlines()[1:]}
    name = f"{world.registry.host}/serval/a"
    assert {tag: line[line.index("Z   ") + 4 :] for (of, tag), line in results.items() if of == name} == {
        "base": "not made by Serval",
        "v4": "one of the 1 newest",
        "v3": "would be deleted",
        "v2": "would be deleted",
        "v1": "used by Pod vision/p",
    }
    assert world.run("prune", "HOST/serval", "--keep=1", "--json", cluster=True) == 0
    assert sum(not one["kept"] for one in json.loads(capsys.readouterr().out)) == 2
    assert world.tags("serval/a") == {"v1", "v4", "base"}
    assert world.tags("serval/b") == {"v1"}


def test_prune_needs_a_whole_view(world: World, capsys: Capture) -> None:
    for day in (1, 2):
        world.push("a", f"v{day}", day=day)
    world.hides("ControllerRevision")
    assert world.run("prune", "HOST/a", "--keep=1", cluster=True) == 1
    assert "--allow-unseen" in capsys.readouterr().err
    assert world.run("prune", "HOST/a", "--keep=1", "--no-cluster") == 1
    assert world.tags("a") == {"v1", "v2"}
    assert world.run("prune", "HOST/a", "--keep=1", "--allow-unseen", cluster=True) == 0
    assert world.tags("a") == {"v2"}
    assert world.run("prune", "HOST/a", "--keep=-1", "--no-cluster") == 2


def test_mirror_list(world: World, capsys: Capture) -> None:
    image = world.push("serval/a", "v1")
    assert world.run("mirror-list", "HOST/serval") == 0
    assert capsys.readouterr().out == f"{world.registry.host}/serval/a@{image.digest}\n"
    world.has(
        "Pod",
        pod("p", "h/artifact@sha256:1", **{"app.kubernetes.io/managed-by": "serval-operator"}),
        pod("q", "h/other:1"),
    )
    assert world.run("mirror-list", cluster=True) == 0
    assert capsys.readouterr().out.splitlines() == ["h/artifact@sha256:1", "h/server:1"]
    assert world.run("mirror-list", "--json", cluster=True) == 0
    assert json.loads(capsys.readouterr().out)[1] == {"image": "h/server:1", "usedBy": ["Pod vision/p"]}
    world.has("Pod")
    assert world.run("mirror-list", cluster=True) == 4


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["list", "HOST/nothing"], 4, "no repository at or below"),
        (["list", "HOST/UPPER"], 2, "a place is written"),
        (["log", "HOST/a"], 2, "an image is written"),
        (["log", "HOST/a:none"], 4, "there is no image"),
        (["log", "HOST/a@sha256:1"], 2, "an image is written"),
        (["delete", "HOST/a:none", "--no-cluster"], 4, "there is no image"),
    ],
)
def test_what_makes_no_sense(
    world: World, capsys: Capture, arguments: list[str], status: int, words: str
) -> None:
    world.push("a", "v1")
    assert world.run(*arguments) == status
    assert words in capsys.readouterr().err


def test_registry_that_lists_nothing(world: World, capsys: Capture, tmp_path: Path) -> None:
    world.push("serval/a", "v1")
    world.registry.users = {"u": User("p", {"*": frozenset({"pull"})})}
    assert world.run("list", "HOST/serval/a") == 1
    config = tmp_path / "config.json"
    auth = base64.b64encode(b"u:p").decode()
    config.write_text(json.dumps({"auths": {world.registry.host: {"auth": auth}}}))
    assert world.run("list", "HOST/serval/a", f"--docker-config={config}") == 0
    assert world.run("list", "HOST", f"--docker-config={config}") == 4
    assert "the registry lists none: name one" in capsys.readouterr().err
    config.write_text(json.dumps({"auths": {world.registry.host: {}}, "credsStore": "desktop"}))
    assert world.run("list", "HOST", f"--docker-config={config}") == 2
    assert "helpers" in capsys.readouterr().err


def test_nobody_answers(world: World, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serval_serving.fetch.retry.BACKOFF_SECONDS", ())
    assert world.run("list", f"127.0.0.1:{free_port()}") == 3
    assert "refused" in capsys.readouterr().err


def test_images_of_a_pod() -> None:
    spec = {
        "initContainers": [{"image": "a"}],
        "containers": [{"image": "b"}, {}],
        "volumes": [{"image": {"reference": "c"}}, {"emptyDir": {}}],
    }
    assert list(pod_images(spec)) == ["a", "b", "c"]
    assert list(pod_images({})) == []
    assert Usage().of("a", "b", ["c"]) == []
