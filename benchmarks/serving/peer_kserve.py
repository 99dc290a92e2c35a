"""KServe's Python SDK with an ONNX file. Runs in KServe's environment.

python peer_kserve.py MODEL GRPC_PORT HTTP_PORT
"""

from __future__ import annotations

import sys
from typing import Any

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import from_np_dtype

PATH, GRPC_PORT, HTTP_PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Onnx(Model):
    """Runs the file."""

    def load(self) -> bool:
        """Open a session of one thread."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session: Any = onnxruntime.InferenceSession(PATH, options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.ready = True
        return True

    def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        """Run the session on the only input."""
        (given,) = payload.inputs
        results = self.session.run(self.outputs, {given.name: given.as_numpy()})
        outputs = []
        for name, array in zip(self.outputs, results, strict=True):
            output = InferOutput(name, list(array.shape), from_np_dtype(array.dtype))
            output.set_data_from_numpy(array, binary_data=True)
            outputs.append(output)
        return InferResponse(payload.id or "", self.name, outputs)


model = Onnx("m")
model.load()
ModelServer(
    http_port=HTTP_PORT, grpc_port=GRPC_PORT, workers=1, enable_grpc=True, enable_latency_logging=False
).start([model])
