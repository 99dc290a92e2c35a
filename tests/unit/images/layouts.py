"""Small images on disk, as buildah exports them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"


def write_image(root: Path, name: str, layers: list[bytes]) -> str:
    """Add an image of these layers to a layout; return the digest of its manifest."""
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _blob(root, json.dumps({"layers": len(layers)}).encode(), CONFIG),
        "layers": [_blob(root, layer, LAYER) for layer in layers],
    }
    manifest = _blob(root, json.dumps(content).encode(), MANIFEST)
    manifest["annotations"] = {"org.opencontainers.image.ref.name": name}
    path = root / "index.json"
    manifests = json.loads(path.read_text())["manifests"] if path.exists() else []
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": [*manifests, manifest]}))
    return str(manifest["digest"])


def _blob(root: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    path = root / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
