"""MLServer with an ONNX file, at its fastest: no worker processes, numpy codec. For MLServer's environment.

python peer_mlserver.py MODEL GRPC_PORT HTTP_PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

PATH, GRPC_PORT, HTTP_PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
LARGEST_MESSAGE = 64 * 1024 * 1024


class Onnx(MLModel):
    """Runs the file."""

    async def load(self) -> bool:
        """Open a session of one thread."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session: Any = onnxruntime.InferenceSession(PATH, options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run the session on the only input."""
        (given,) = payload.inputs
        results = self.session.run(self.names, {given.name: NumpyCodec.decode_input(given)})
        named = zip(self.names, results, strict=True)
        outputs = [NumpyCodec.encode_output(name, np.asarray(array)) for name, array in named]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main() -> None:
    """Serve until stopped."""
    settings = Settings(
        parallel_workers=0,
        grpc_port=GRPC_PORT,
        http_port=HTTP_PORT,
        host="127.0.0.1",
        grpc_max_message_length=LARGEST_MESSAGE,
        metrics_endpoint=None,
        debug=False,
    )
    await MLServer(settings).start([ModelSettings(name="m", implementation=Onnx)])


asyncio.run(main())
