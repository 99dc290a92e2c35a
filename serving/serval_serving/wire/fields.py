"""The messages of the predict API as tables of fields; `schema` makes descriptors of them.

Field numbers and names are those of tensorflow/core and tensorflow_serving (apis, config, and the parameters
of batching, whose numbers never travel: they are read as text). Fields left out here are kept as unknown
fields, so nothing that passes through is lost.
"""

from __future__ import annotations

from typing import NamedTuple

from serval_serving.wire.dtypes import DataType


class Field(NamedTuple):
    """One field: `kind` is a scalar's name, `enum:<full name>` or a message's full name.

    `label` is "one", "many" or "map"; the keys of maps are strings.
    """

    number: int
    name: str
    kind: str
    label: str = "one"
    oneof: str = ""


def _many(number: int, name: str, kind: str) -> Field:
    return Field(number, name, kind, label="many")


def _map(number: int, name: str, kind: str) -> Field:
    """Build a map from string to `kind`."""
    return Field(number, name, kind, label="map")


_POLICY = "tensorflow.serving.FileSystemStoragePathSourceConfig.ServableVersionPolicy"

ENUMS: dict[str, dict[str, dict[str, int]]] = {
    "tensorflow": {"DataType": {member.name: member.value for member in DataType}},
    "tensorflow.error": {
        "Code": {
            "OK": 0,
            "CANCELLED": 1,
            "UNKNOWN": 2,
            "INVALID_ARGUMENT": 3,
            "DEADLINE_EXCEEDED": 4,
            "NOT_FOUND": 5,
            "ALREADY_EXISTS": 6,
            "PERMISSION_DENIED": 7,
            "RESOURCE_EXHAUSTED": 8,
            "FAILED_PRECONDITION": 9,
            "ABORTED": 10,
            "OUT_OF_RANGE": 11,
            "UNIMPLEMENTED": 12,
            "INTERNAL": 13,
            "UNAVAILABLE": 14,
            "DATA_LOSS": 15,
            "UNAUTHENTICATED": 16,
        }
    },
    "tensorflow.serving": {
        "ModelVersionStatus.State": {
            "UNKNOWN": 0,
            "START": 10,
            "LOADING": 20,
            "AVAILABLE": 30,
            "UNLOADING": 40,
            "END": 50,
        },
        "ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2},
    },
}

MESSAGES: dict[str, dict[str, tuple[Field, ...]]] = {
    "tensorflow.error": {},
    "tensorflow": {
        "TensorShapeProto": (
            _many(2, "dim", "tensorflow.TensorShapeProto.Dim"),
            Field(3, "unknown_rank", "bool"),
        ),
        "TensorShapeProto.Dim": (Field(1, "size", "int64"), Field(2, "name", "string")),
        "TensorProto": (
            Field(1, "dtype", "enum:tensorflow.DataType"),
            Field(2, "tensor_shape", "tensorflow.TensorShapeProto"),
            Field(3, "version_number", "int32"),
            Field(4, "tensor_content", "bytes"),
            _many(5, "float_val", "float"),
            _many(6, "double_val", "double"),
            _many(7, "int_val", "int32"),
            _many(8, "string_val", "bytes"),
            _many(9, "scomplex_val", "float"),
            _many(10, "int64_val", "int64"),
            _many(11, "bool_val", "bool"),
            _many(12, "dcomplex_val", "double"),
            _many(13, "half_val", "int32"),
            _many(16, "uint32_val", "uint32"),
            _many(17, "uint64_val", "uint64"),
        ),
        "BytesList": (_many(1, "value", "bytes"),),
        "FloatList": (_many(1, "value", "float"),),
        "Int64List": (_many(1, "value", "int64"),),
        "Feature": (
            Field(1, "bytes_list", "tensorflow.BytesList", oneof="kind"),
            Field(2, "float_list", "tensorflow.FloatList", oneof="kind"),
            Field(3, "int64_list", "tensorflow.Int64List", oneof="kind"),
        ),
        "Features": (_map(1, "feature", "tensorflow.Feature"),),
        "Example": (Field(1, "features", "tensorflow.Features"),),
        "TensorInfo": (
            Field(1, "name", "string", oneof="encoding"),
            Field(4, "coo_sparse", "tensorflow.TensorInfo.CooSparse", oneof="encoding"),
            Field(5, "composite_tensor", "tensorflow.TensorInfo.CompositeTensor", oneof="encoding"),
            Field(2, "dtype", "enum:tensorflow.DataType"),
            Field(3, "tensor_shape", "tensorflow.TensorShapeProto"),
        ),
        "TensorInfo.CooSparse": (
            Field(1, "values_tensor_name", "string"),
            Field(2, "indices_tensor_name", "string"),
            Field(3, "dense_shape_tensor_name", "string"),
        ),
        "TensorInfo.CompositeTensor": (_many(2, "components", "tensorflow.TensorInfo"),),
        "SignatureDef": (
            _map(1, "inputs", "tensorflow.TensorInfo"),
            _map(2, "outputs", "tensorflow.TensorInfo"),
            Field(3, "method_name", "string"),
            _map(4, "defaults", "tensorflow.TensorProto"),
        ),
        "MetaGraphDef": (
            Field(1, "meta_info_def", "tensorflow.MetaGraphDef.MetaInfoDef"),
            _map(5, "signature_def", "tensorflow.SignatureDef"),
        ),
        "MetaGraphDef.MetaInfoDef": (_many(4, "tags", "string"), Field(5, "tensorflow_version", "string")),
        "SavedModel": (
            Field(1, "saved_model_schema_version", "int64"),
            _many(2, "meta_graphs", "tensorflow.MetaGraphDef"),
        ),
    },
    "tensorflow.serving": {
        "ModelSpec": (
            Field(1, "name", "string"),
            Field(2, "version", "google.protobuf.Int64Value", oneof="version_choice"),
            Field(4, "version_label", "string", oneof="version_choice"),
            Field(3, "signature_name", "string"),
        ),
        "PredictRequest": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            _map(2, "inputs", "tensorflow.TensorProto"),
            _many(3, "output_filter", "string"),
        ),
        "PredictResponse": (
            Field(2, "model_spec", "tensorflow.serving.ModelSpec"),
            _map(1, "outputs", "tensorflow.TensorProto"),
        ),
        "ExampleList": (_many(1, "examples", "tensorflow.Example"),),
        "ExampleListWithContext": (
            _many(1, "examples", "tensorflow.Example"),
            Field(2, "context", "tensorflow.Example"),
        ),
        "Input": (
            Field(1, "example_list", "tensorflow.serving.ExampleList", oneof="kind"),
            Field(2, "example_list_with_context", "tensorflow.serving.ExampleListWithContext", oneof="kind"),
        ),
        "Class": (Field(1, "label", "string"), Field(2, "score", "float")),
        "Classifications": (_many(1, "classes", "tensorflow.serving.Class"),),
        "ClassificationResult": (_many(1, "classifications", "tensorflow.serving.Classifications"),),
        "ClassificationRequest": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            Field(2, "input", "tensorflow.serving.Input"),
        ),
        "ClassificationResponse": (
            Field(2, "model_spec", "tensorflow.serving.ModelSpec"),
            Field(1, "result", "tensorflow.serving.ClassificationResult"),
        ),
        "Regression": (Field(1, "value", "float"),),
        "RegressionResult": (_many(1, "regressions", "tensorflow.serving.Regression"),),
        "RegressionRequest": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            Field(2, "input", "tensorflow.serving.Input"),
        ),
        "RegressionResponse": (
            Field(2, "model_spec", "tensorflow.serving.ModelSpec"),
            Field(1, "result", "tensorflow.serving.RegressionResult"),
        ),
        "InferenceTask": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            Field(2, "method_name", "string"),
        ),
        "InferenceResult": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            Field(2, "classification_result", "tensorflow.serving.ClassificationResult", oneof="result"),
            Field(3, "regression_result", "tensorflow.serving.RegressionResult", oneof="result"),
        ),
        "MultiInferenceRequest": (
            _many(1, "tasks", "tensorflow.serving.InferenceTask"),
            Field(2, "input", "tensorflow.serving.Input"),
        ),
        "MultiInferenceResponse": (_many(1, "results", "tensorflow.serving.InferenceResult"),),
        "SignatureDefMap": (_map(1, "signature_def", "tensorflow.SignatureDef"),),
        "GetModelMetadataRequest": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            _many(2, "metadata_field", "string"),
        ),
        "GetModelMetadataResponse": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            _map(2, "metadata", "google.protobuf.Any"),
        ),
        "StatusProto": (
            Field(1, "error_code", "enum:tensorflow.error.Code"),
            Field(2, "error_message", "string"),
        ),
        "ModelVersionStatus": (
            Field(1, "version", "int64"),
            Field(2, "state", "enum:tensorflow.serving.ModelVersionStatus.State"),
            Field(3, "status", "tensorflow.serving.StatusProto"),
        ),
        "GetModelStatusRequest": (Field(1, "model_spec", "tensorflow.serving.ModelSpec"),),
        "GetModelStatusResponse": (
            _many(1, "model_version_status", "tensorflow.serving.ModelVersionStatus"),
        ),
        "FileSystemStoragePathSourceConfig": (),
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy": (
            Field(100, "latest", f"{_POLICY}.Latest", oneof="policy_choice"),
            Field(101, "all", f"{_POLICY}.All", oneof="policy_choice"),
            Field(102, "specific", f"{_POLICY}.Specific", oneof="policy_choice"),
        ),
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest": (
            Field(1, "num_versions", "uint32"),
        ),
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy.All": (),
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific": (_many(1, "versions", "int64"),),
        "LogCollectorConfig": (Field(1, "type", "string"), Field(2, "filename_prefix", "string")),
        "SamplingConfig": (Field(1, "sampling_rate", "double"),),
        "LoggingConfig": (
            Field(1, "log_collector_config", "tensorflow.serving.LogCollectorConfig"),
            Field(2, "sampling_config", "tensorflow.serving.SamplingConfig"),
        ),
        "ModelConfig": (
            Field(1, "name", "string"),
            Field(2, "base_path", "string"),
            Field(3, "model_type", "enum:tensorflow.serving.ModelType"),
            Field(4, "model_platform", "string"),
            Field(7, "model_version_policy", _POLICY),
            _map(8, "version_labels", "int64"),
            Field(6, "logging_config", "tensorflow.serving.LoggingConfig"),
        ),
        "ModelConfigList": (_many(1, "config", "tensorflow.serving.ModelConfig"),),
        "ModelServerConfig": (
            Field(1, "model_config_list", "tensorflow.serving.ModelConfigList", oneof="config"),
            Field(2, "custom_model_config", "google.protobuf.Any", oneof="config"),
        ),
        "ReloadConfigRequest": (Field(1, "config", "tensorflow.serving.ModelServerConfig"),),
        "ReloadConfigResponse": (Field(1, "status", "tensorflow.serving.StatusProto"),),
        "ClassifyLog": (Field(1, "request", "tensorflow.serving.ClassificationRequest"),),
        "RegressLog": (Field(1, "request", "tensorflow.serving.RegressionRequest"),),
        "PredictLog": (Field(1, "request", "tensorflow.serving.PredictRequest"),),
        "MultiInferenceLog": (Field(1, "request", "tensorflow.serving.MultiInferenceRequest"),),
        "PredictionLog": (
            Field(2, "classify_log", "tensorflow.serving.ClassifyLog", oneof="log_type"),
            Field(3, "regress_log", "tensorflow.serving.RegressLog", oneof="log_type"),
            Field(6, "predict_log", "tensorflow.serving.PredictLog", oneof="log_type"),
            Field(4, "multi_inference_log", "tensorflow.serving.MultiInferenceLog", oneof="log_type"),
        ),
        "BatchingParameters": (
            Field(1, "max_batch_size", "google.protobuf.Int64Value"),
            Field(2, "batch_timeout_micros", "google.protobuf.Int64Value"),
            Field(3, "max_enqueued_batches", "google.protobuf.Int64Value"),
            Field(4, "num_batch_threads", "google.protobuf.Int64Value"),
            Field(5, "thread_pool_name", "google.protobuf.StringValue"),
            _many(6, "allowed_batch_sizes", "int64"),
            Field(7, "pad_variable_length_inputs", "bool"),
            Field(8, "enable_large_batch_splitting", "google.protobuf.BoolValue"),
            Field(9, "max_execution_batch_size", "google.protobuf.Int64Value"),
        ),
        "SSLConfig": (
            Field(1, "server_key", "string"),
            Field(2, "server_cert", "string"),
            Field(3, "custom_ca", "string"),
            Field(4, "client_verify", "bool"),
        ),
        "PrometheusConfig": (Field(1, "enable", "bool"), Field(2, "path", "string")),
        "MonitoringConfig": (Field(1, "prometheus_config", "tensorflow.serving.PrometheusConfig"),),
    },
}
