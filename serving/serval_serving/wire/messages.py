"""Message classes of the predict API. Their types are declared in `messages.pyi`."""

from __future__ import annotations

from serval_serving.wire.schema import build_pool, message_class

POOL = build_pool()
"""The private pool. One for the process: classes of two pools do not fit together."""

TensorShapeProto = message_class(POOL, "tensorflow.TensorShapeProto")
TensorProto = message_class(POOL, "tensorflow.TensorProto")
TensorInfo = message_class(POOL, "tensorflow.TensorInfo")
SignatureDef = message_class(POOL, "tensorflow.SignatureDef")
MetaGraphDef = message_class(POOL, "tensorflow.MetaGraphDef")
SavedModel = message_class(POOL, "tensorflow.SavedModel")

ModelSpec = message_class(POOL, "tensorflow.serving.ModelSpec")
PredictRequest = message_class(POOL, "tensorflow.serving.PredictRequest")
PredictResponse = message_class(POOL, "tensorflow.serving.PredictResponse")
SignatureDefMap = message_class(POOL, "tensorflow.serving.SignatureDefMap")
GetModelMetadataRequest = message_class(POOL, "tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message_class(POOL, "tensorflow.serving.GetModelMetadataResponse")
StatusProto = message_class(POOL, "tensorflow.serving.StatusProto")
ModelVersionStatus = message_class(POOL, "tensorflow.serving.ModelVersionStatus")
GetModelStatusRequest = message_class(POOL, "tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message_class(POOL, "tensorflow.serving.GetModelStatusResponse")
MonitoringConfig = message_class(POOL, "tensorflow.serving.MonitoringConfig")
