"""What stands beside the control plane on the bridge: registry, DNS, and kwok for fake nodes."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import socket
import struct
import tarfile
import tempfile
from pathlib import Path

import urllib3

from serval_lab import control_plane
from serval_lab.addresses import REGISTRY_PORT
from serval_lab.context import Context
from serval_lab.errors import LabError
from serval_lab.shell import run
from serval_lab.wait import wait_for

REGISTRY = "registry"
DNS = "coredns"
REGISTRY_LIMIT = 30.0
DNS_LIMIT = 60.0
PUSH_LIMIT = 300.0

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


def registry_address(context: Context) -> str:
    """Return HOST:PORT of the lab's registry, which is also the prefix of its images."""
    return f"{context.host}:{REGISTRY_PORT}"


def hosts_folder(context: Context) -> Path:
    """Return the folder that tells containerd how to reach registries."""
    return context.folder.path / "certs.d"


def start_registry(context: Context, data: Path) -> None:
    """Start the registry and wait until it answers; then see that it has the pause image.

    Parameters
    ----------
    context
        The lab.
    data
        Folder of its blobs and tags; it survives the lab.
    """
    data.mkdir(parents=True, exist_ok=True)
    address = registry_address(context)
    config = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
    path = context.folder.path / "registry.json"
    path.write_text(json.dumps(config))
    hosts = hosts_folder(context) / address
    hosts.mkdir(parents=True, exist_ok=True)
    (hosts / "hosts.toml").write_text(
        f'server = "http://{address}"\n[host."http://{address}"]\n  capabilities = ["pull", "resolve"]\n'
    )
    # Its traces would otherwise be sent to a collector on loopback.
    env = {"OTEL_TRACES_EXPORTER": "none"}
    context.start(REGISTRY, [context.binaries.path("registry"), "serve", path], env)
    wait_for(
        "the registry",
        lambda: _registry_answers(address),
        REGISTRY_LIMIT,
        log=context.log(REGISTRY),
        alive=context.alive(REGISTRY),
    )
    push_pause(context)


def _registry_answers(address: str) -> bool:
    try:
        return urllib3.request("GET", f"http://{address}/v2/", timeout=2.0, retries=False).status == 200
    except (urllib3.exceptions.HTTPError, OSError):
        return False


def manifest_digest(context: Context, repository: str, tag: str) -> str | None:
    """Return the digest that a tag of the lab's registry points to; None if there is no such tag."""
    url = f"http://{registry_address(context)}/v2/{repository}/manifests/{tag}"
    try:
        answer = urllib3.request(
            "HEAD", url, headers={"Accept": f"{_MANIFEST}, {_INDEX}"}, timeout=5.0, retries=False
        )
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise LabError(f"the lab's registry does not answer: {error}") from error
    return answer.headers.get("Docker-Content-Digest") if answer.status == 200 else None


def pause_image(context: Context) -> str:
    """Return the reference of the image that holds a pod's namespaces open."""
    return f"{registry_address(context)}/{_pause_repository(context)}"


def _pause_repository(context: Context) -> str:
    digest = hashlib.sha256(context.binaries.path("pause").read_bytes()).hexdigest()
    return f"serval-lab/pause:{digest[:12]}"


def push_pause(context: Context) -> None:
    """Make the pause image, a single static program, and push it unless the registry has it."""
    repository, tag = _pause_repository(context).rsplit(":", 1)
    if manifest_digest(context, repository, tag):
        return
    with tempfile.TemporaryDirectory(dir=context.folder.path) as scratch:
        layout = Path(scratch)
        write_image(layout, context.binaries.path("pause"), "/pause")
        push(context, layout, f"{repository}:{tag}")


def write_image(layout: Path, program: Path, entrypoint: str, mode: int = 0o755) -> None:
    """Write an OCI layout of an image that holds one program and nothing else.

    Parameters
    ----------
    layout
        Empty folder to write to.
    program
        The program, statically linked.
    entrypoint
        Its absolute path in the image.
    mode
        Its permissions; without those to execute it, no container of the image can start.
    """
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer = layout / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        member = tarfile.TarInfo(entrypoint.lstrip("/"))
        member.size, member.mode = program.stat().st_size, mode
        with program.open("rb") as stream:
            archive.addfile(member, stream)

    def blob(data: bytes, media_type: str) -> dict[str, str | int]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    data = layer.read_bytes()
    layer.unlink()
    layer_blob = blob(data, "application/vnd.oci.image.layer.v1.tar")
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [entrypoint], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [layer_blob],
    }
    index = {
        "schemaVersion": 2,
        "mediaType": _INDEX,
        "manifests": [blob(json.dumps(manifest).encode(), _MANIFEST)],
    }
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def push(context: Context, image: Path, repository: str) -> str:
    """Push an image to the lab's registry, unless the tag there is this image already.

    Parameters
    ----------
    context
        The lab.
    image
        OCI layout: a folder, or a tar archive of one.
    repository
        NAME:TAG inside the registry.

    Returns
    -------
    str
        The reference that pods use.

    Raises
    ------
    LabError
        If `image` is no OCI layout of one image, or the push fails.
    """
    name, colon, tag = repository.rpartition(":")
    if not colon or "/" in tag:
        raise LabError(f"{repository!r} is no NAME:TAG")
    reference = f"{registry_address(context)}/{repository}"
    if _layout_digest(image) == manifest_digest(context, name, tag):
        return reference
    with tempfile.TemporaryDirectory(dir=context.folder.path, prefix="push-") as scratch:
        layout = image
        if not image.is_dir():
            layout = Path(scratch)
            with tarfile.open(image) as archive:
                archive.extractall(layout, filter="data")
        crane = context.binaries.path("crane")
        run([crane, "push", "--insecure", layout, reference], limit=PUSH_LIMIT, env=context.env)
    return reference


def _layout_digest(image: Path) -> str:
    """Return the digest of the one image of an OCI layout."""
    try:
        if image.is_dir():
            text = (image / "index.json").read_bytes()
        else:
            with tarfile.open(image) as archive:
                stream = next(
                    archive.extractfile(member)
                    for member in archive
                    if member.name.removeprefix("./") == "index.json"
                )
                text = stream.read() if stream else b""
        manifests = json.loads(text)["manifests"]
        (digest,) = [str(manifest["digest"]) for manifest in manifests]
    except (OSError, tarfile.TarError, StopIteration, ValueError, KeyError) as error:
        raise LabError(f"{image} is no OCI layout of one image: {error!r}") from error
    return digest


def start_dns(context: Context) -> None:
    """Start CoreDNS on the bridge's address."""
    corefile = context.folder.path / "Corefile"
    corefile.write_text(
        f".:53 {{\n  bind {context.host}\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n"
        f"    kubeconfig {context.folder.kubeconfig} {control_plane.context_name(context.name)}\n"
        "    pods verified\n  }\n  cache 5\n}\n"
    )
    context.start(DNS, [context.binaries.path("coredns"), "-conf", corefile])


def wait_dns(context: Context) -> None:
    """Wait until DNS knows ``kubernetes.default``."""
    wait_for(
        "the cluster's DNS",
        lambda: resolve(context.host, "kubernetes.default.svc.cluster.local"),
        DNS_LIMIT,
        log=context.log(DNS),
        alive=context.alive(DNS),
        every=0.1,
    )


def resolve(server: str, name: str, limit: float = 1.0) -> list[str]:
    """Ask a name server for the IPv4 addresses of a name.

    Parameters
    ----------
    server
        Address of the name server.
    name
        Fully qualified name.
    limit
        Seconds to wait for the answer.

    Returns
    -------
    list[str]
        The addresses; empty where there is no such name or no answer.
    """
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    question = struct.pack(">6H", 0x5E57, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">xHH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(limit)
        try:
            client.sendto(question, (server, 53))
            answer = client.recv(4096)
        except OSError:
            return []
    count = struct.unpack(">H", answer[6:8])[0]
    found, offset = [], len(question)
    for _ in range(count):
        offset = _skip_name(answer, offset)
        kind, _class, _ttl, length = struct.unpack(">HHIH", answer[offset : offset + 10])
        offset += 10
        if kind == 1:
            found.append(socket.inet_ntoa(answer[offset : offset + length]))
        offset += length
    return found


def _skip_name(message: bytes, offset: int) -> int:
    while message[offset]:
        if message[offset] >= 0xC0:  # a pointer ends a name
            return offset + 2
        offset += message[offset] + 1
    return offset + 1


def purge(data: Path) -> None:
    """Delete a registry's data."""
    shutil.rmtree(data, ignore_errors=True)
