"""Message classes of the predict API. Their types are declared in `messages.pyi`, which is generated."""

from __future__ import annotations

from serval_serving.wire.descriptors import build_pool, message_class

POOL = build_pool()
"""The private pool. One for the process: classes of two pools do not fit together."""

TensorShapeProto = message_class(POOL, "tensorflow.TensorShapeProto")
TensorProto = message_class(POOL, "tensorflow.TensorProto")
Feature = message_class(POOL, "tensorflow.Feature")
Example = message_class(POOL, "tensorflow.Example")
TensorInfo = message_class(POOL, "tensorflow.TensorInfo")
SignatureDef = message_class(POOL, "tensorflow.SignatureDef")

ModelSpec = message_class(POOL, "tensorflow.serving.ModelSpec")
PredictRequest = message_class(POOL, "tensorflow.serving.PredictRequest")
PredictResponse = message_class(POOL, "tensorflow.serving.PredictResponse")
Input = message_class(POOL, "tensorflow.serving.Input")
Class = message_class(POOL, "tensorflow.serving.Class")
Classifications = message_class(POOL, "tensorflow.serving.Classifications")
ClassificationResult = message_class(POOL, "tensorflow.serving.ClassificationResult")
ClassificationRequest = message_class(POOL, "tensorflow.serving.ClassificationRequest")
ClassificationResponse = message_class(POOL, "tensorflow.serving.ClassificationResponse")
Regression = message_class(POOL, "tensorflow.serving.Regression")
RegressionResult = message_class(POOL, "tensorflow.serving.RegressionResult")
RegressionRequest = message_class(POOL, "tensorflow.serving.RegressionRequest")
RegressionResponse = message_class(POOL, "tensorflow.serving.RegressionResponse")
InferenceTask = message_class(POOL, "tensorflow.serving.InferenceTask")
InferenceResult = message_class(POOL, "tensorflow.serving.InferenceResult")
MultiInferenceRequest = message_class(POOL, "tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = message_class(POOL, "tensorflow.serving.MultiInferenceResponse")
SignatureDefMap = message_class(POOL, "tensorflow.serving.SignatureDefMap")
GetModelMetadataRequest = message_class(POOL, "tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message_class(POOL, "tensorflow.serving.GetModelMetadataResponse")
StatusProto = message_class(POOL, "tensorflow.serving.StatusProto")
ModelVersionStatus = message_class(POOL, "tensorflow.serving.ModelVersionStatus")
GetModelStatusRequest = message_class(POOL, "tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message_class(POOL, "tensorflow.serving.GetModelStatusResponse")
ModelServerConfig = message_class(POOL, "tensorflow.serving.ModelServerConfig")
ModelConfig = message_class(POOL, "tensorflow.serving.ModelConfig")
ReloadConfigRequest = message_class(POOL, "tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = message_class(POOL, "tensorflow.serving.ReloadConfigResponse")
PredictionLog = message_class(POOL, "tensorflow.serving.PredictionLog")
BatchingParameters = message_class(POOL, "tensorflow.serving.BatchingParameters")
SSLConfig = message_class(POOL, "tensorflow.serving.SSLConfig")
MonitoringConfig = message_class(POOL, "tensorflow.serving.MonitoringConfig")
