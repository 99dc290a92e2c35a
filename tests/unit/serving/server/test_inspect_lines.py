"""The lines of `serval inspect` do what they say: a live server answers what they would send."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from google.protobuf import json_format

from serval_serving.cli.examples import examples
from serval_serving.models.savedmodel_files import read_saved_model
from unit.serving.server.processes import Server
from unit.serving.wire.official import stubs

LIMIT = 30.0
SUBSTITUTION = "'$(base64 -w0 image.jpg)'"
IMAGE = base64.b64encode(b"\x89PNG\xff").decode()
NEEDS_OTHER_DATA = {
    "parse": "takes numbers as text",
    "two_batches": "outputs of several batches have no rows",
}


def sent(line: str) -> tuple[Any, list[str]]:
    """The document of a line, and its words without that."""
    start, end = line.index("{"), line.replace(SUBSTITUTION, "_" * len(SUBSTITUTION)).rindex("}") + 1
    document = json.loads(line[start:end].replace(SUBSTITUTION, IMAGE))
    return document, (line[:start] + line[end:]).replace("'", "").split()


def test_all_lines_are_answered(zoo: Server, models: Path) -> None:
    signatures = read_saved_model(models / "zoo" / "0000007").signatures
    counted = {"score": 0, "rest": 0, "grpc": 0}
    with zoo.channel() as channel:
        predict = stubs().prediction_service.PredictionServiceStub(channel).Predict
        for key in signatures.keys() - NEEDS_OTHER_DATA:
            for line in examples(key, signatures[key], "zoo", "localhost"):
                if "--data-binary" in line:
                    reply = zoo.post(urlsplit(line.split()[-1]).path, b"\x89PNG\xff")
                    assert (reply.status, line.split()[2]) == (200, "@image.jpg"), line
                    counted["score"] += 1
                elif "grpcurl" in line:
                    document, words = sent(line)
                    assert words[-1] == "tensorflow.serving.PredictionService/Predict"
                    request = json_format.ParseDict(document, stubs().predict.PredictRequest())
                    assert predict(request, timeout=LIMIT).outputs, line
                    counted["grpc"] += 1
                elif "curl" in line:
                    document, words = sent(line)
                    reply = zoo.post(urlsplit(words[-1]).path, json.dumps(document))
                    assert reply.status == 200, (line, reply.data)
                    counted["rest"] += 1
    asked = len(signatures) - len(NEEDS_OTHER_DATA)
    # The REST API knows no complex numbers.
    assert counted == {"score": 1, "rest": asked - 1, "grpc": asked}
