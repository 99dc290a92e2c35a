"""ModelDeployments that the API server takes, and those that it refuses: field, and words of the message."""

from __future__ import annotations

from typing import Any

from integration.crd_samples import EVERYTHING, Document, document


def model(**fields: Any) -> Document:
    return document(model={"uri": "pvc://models/resnet50", **fields})


def env(name: str, value: str = "1") -> Document:
    return document(runtime={"env": [{"name": name, "value": value}]})


def accelerator(**fields: Any) -> Document:
    return document(accelerator={"profile": "nvidia-gpu", **fields})


def autoscaling(
    *, resources: Document | None = None, endpoint: Document | None = None, **fields: Any
) -> Document:
    return document(
        autoscaling={"maxReplicas": 5, **fields}, resources=resources or {}, endpoint=endpoint or {}
    )


def scheduling(**fields: Any) -> Document:
    return document(scheduling=fields)


def toleration(**fields: Any) -> Document:
    return scheduling(tolerations=[fields])


def batching(*args: str, **fields: Any) -> Document:
    return document(runtime={"args": list(args), "batching": fields})


ON_REQUESTS = {"type": "RequestsInFlight"}
GOOD: dict[str, Document] = {
    "the least": document(),
    "everything": EVERYTHING,
    "longest name": document("a" + "b" * 52),
    "one letter": document("m"),
    "root of a claim": model(uri="pvc://models"),
    "root of a claim with a slash": model(uri="pvc://models/"),
    "claim with dots": model(uri="pvc://models.v1-a/x/y_z"),
    "https by address": model(uri="https://10.0.0.8/m.zip"),
    "https by IPv6 address": model(uri="https://[fd00::8]:8443/m.zip"),
    "pvc path with a space": model(uri="pvc://models/a%20b"),
    "pvc path beyond ASCII": model(uri="pvc://models/\u732b"),
    "version 0": model(version=0),
    "version of today's nanoseconds": model(version=1795255000123456789),
    "version of today's seconds": model(version=1795255000),
    "CA for a store": model(uri="s3://models/m", caConfigMapRef={"name": "ca"}),
    "CA for a registry": model(uri="oci://r.test/m:1", caConfigMapRef={"name": "ca"}),
    "CA with its default key": model(uri="https://store/m.tgz", caConfigMapRef={"name": "ca"}),
    "empty blocks": document(runtime={}, resources={}, scheduling={}, endpoint={}, probes={}, podMetadata={}),
    "most replicas": document(replicas=1000),
    "limit without request": document(resources={"limits": {"memory": "1Gi"}}),
    "limit equals request in other words": document(
        resources={"requests": {"cpu": "1500m"}, "limits": {"cpu": "1.5"}}
    ),
    "zero CPU": document(resources={"requests": {"cpu": 0}}),
    "similar to a reserved flag": document(runtime={"args": ["--rest_api_port_range=1"]}),
    "similar to a reserved variable": env("MY_PATH"),
    "similar to a reserved domain": document(podMetadata={"labels": {"notkubernetes.io/a": "b"}}),
    "resource in a deep domain": document(accelerator={"resourceName": "amd.com/xilinx_u250_gen3x16-0"}),
    "blob in a container's root": model(uri="azureblob://devstoreaccount1/models"),
    "blob": model(uri="azureblob://acct/my-models/vision/resnet50%20v2/"),
    "bucket": model(uri="s3://models.example-1/vision/resnet50"),
    "bucket's root": model(uri="s3://abc"),
    "bucket of the other store": model(uri="gs://models_eu/resnet50.tar.gz"),
    "image by tag": model(uri="oci://registry.example:5000/vision/resnet_50:v1.5-GPU"),
    "image by digest": model(uri=f"oci://localhost/m@sha256:{'0' * 64}"),
    "image by tag and digest": model(uri=f"oci://r.example/a/b/c__d.e--f:3@sha256:{'0' * 64}"),
    "image without tag": model(uri="oci://registry.example/vision"),
    "ONNX": model(framework="ONNX"),
    "credentials for https": model(uri="https://s/m.zip", credentials={"secretRef": {"name": "keys"}}),
    "a ServiceAccount": model(uri="s3://models/m", credentials={"serviceAccountName": "reader.v1"}),
    "autoscaling on CPU": autoscaling(resources={"requests": {"cpu": 1}}),
    "autoscaling on CPU with a limit": autoscaling(
        resources={"limits": {"cpu": "500m"}}, metrics=[{"type": "CPU", "targetUtilization": 100}]
    ),
    "autoscaling on requests": autoscaling(
        endpoint={"maxConcurrentRequests": 4}, metrics=[ON_REQUESTS], minReplicas=3, maxReplicas=3
    ),
    "autoscaling on both": autoscaling(
        resources={"requests": {"cpu": 1}},
        endpoint={"maxConcurrentRequests": 4},
        metrics=[{**ON_REQUESTS, "targetUtilization": 1}, {"type": "CPU"}],
    ),
    "autoscaling beside replicas": document(
        replicas=2, autoscaling={"maxReplicas": 4}, resources={"requests": {"cpu": 1}}
    ),
    "empty new blocks": document(rollout={}, disruption={}),
    "budget of one": document(disruption={"maxUnavailable": 1}),
    "budget of one percent": document(disruption={"maxUnavailable": "1%"}),
    "budget of all": document(disruption={"maxUnavailable": "100%"}),
    "shortest rollout": document(rollout={"startDeadlineSeconds": 10, "minReadySeconds": 0}),
    "longest rollout": document(rollout={"startDeadlineSeconds": 86400, "minReadySeconds": 3600}),
    "any text as a trigger": document(rollout={"trigger": "2026-11-28: $(new) driver, \u732b"}),
    "longest trigger": document(rollout={"trigger": "x" * 253}),
    "empty trigger": document(rollout={"trigger": ""}),
    "no spread": scheduling(topologySpread="Disabled"),
    "nodes for a model on CPU": scheduling(
        nodeSelector={"pool": "models"}, tolerations=[{"key": "models", "operator": "Exists"}]
    ),
    "nodes for a profile": document(
        accelerator={"profile": "nvidia-gpu"}, scheduling={"nodeSelector": {"zone": "a"}}
    ),
    "classes and a scheduler": scheduling(
        priorityClassName="not-system-high", runtimeClassName="kata.v2", schedulerName="volcano"
    ),
    "smallest batches": batching(maxBatchSize=1, timeoutMicros=0, maxEnqueued=1),
    "largest batches": batching(maxBatchSize=65536, timeoutMicros=60000000, maxEnqueued=65536),
    "batches by flags": document(runtime={"args": ["--enable_batching", "--batching_parameters_file=/b"]}),
    "batches and similar flags": batching(
        "--enable_batching_x=1", "--enable_per_model_batching_parameters", maxBatchSize=8
    ),
    "raw bytes": document(endpoint={"rawBytes": "Enabled"}),
    "no raw bytes": document(endpoint={"rawBytes": "Disabled"}),
}


MODEL, URI = "spec.model", "spec.model.uri"
SCHEMES = "must start with pvc://, https://, azureblob://, s3://, gs://"
AZURE, BUCKET, IMAGE = (
    "must be azureblob://ACCOUNT/CONTAINER/PATH",
    "must be s3://BUCKET/PATH",
    "must be oci://",
)
CREDENTIALS = "spec.model.credentials"
BATCHING = "spec.runtime.batching"
ONE_CREDENTIAL = "exactly one of `secretRef` and `serviceAccountName` must be set"
REQUESTS = "spec.resources.requests"
BAD: dict[str, tuple[Document, str, str]] = {
    # --- the name: the API server would take all of these, Services would not
    "name too long": (document("a" * 54), "<nil>", "at most 53 characters"),
    "name starts with a digit": (document("1abc"), "<nil>", "must start with a letter"),
    "name with dots": (document("a.b.c"), "<nil>", "only lower-case letters, digits and hyphens"),
    # --- the model
    "no model": ({**document(), "spec": {}}, MODEL, "Required value"),
    "no spec": ({k: v for k, v in document().items() if k != "spec"}, "spec", "Required value"),
    "no uri": (document(model={}), URI, "Required value"),
    "empty uri": (model(uri=""), URI, SCHEMES),
    "uri too long": (model(uri="pvc://models/" + "x" * 1024), URI, "may not be more than 1024"),
    "other scheme": (model(uri="file:///etc/passwd"), URI, SCHEMES),
    "plain http": (model(uri="http://store/m.zip"), URI, SCHEMES),
    "upper-case scheme": (model(uri="HTTPS://store/m.zip"), URI, SCHEMES),
    "no scheme": (model(uri="models/resnet50"), URI, SCHEMES),
    "no claim": (model(uri="pvc:///resnet50"), URI, "must be pvc://CLAIM/PATH"),
    "claim in upper case": (model(uri="pvc://Models/x"), URI, "must be pvc://CLAIM/PATH"),
    "claim with a query": (model(uri="pvc://models?x=1"), URI, "must be pvc://CLAIM/PATH"),
    "pvc path with encoded dots": (model(uri="pvc://models/%2e%2e/x"), URI, "%2e"),
    "https beyond ASCII": (model(uri="https://store/m\u00fc.zip"), URI, "in ASCII characters"),
    "https without path": (model(uri="https://store"), URI, "must be https://HOST/PATH"),
    "https with the root as path": (model(uri="https://store/"), URI, "must be https://HOST/PATH"),
    "https without host": (model(uri="https:///m.zip"), URI, "must be https://HOST/PATH"),
    "https with a long port": (model(uri="https://store:123456/m.zip"), URI, "must be https://HOST/PATH"),
    "user and password": (model(uri="https://u:p@store/m.zip"), URI, "must not carry a user name"),
    "dots in a pvc path": (model(uri="pvc://models/../other"), URI, "must not contain `..`"),
    "dots in an https path": (model(uri="https://store/a/../m.zip"), URI, "must not contain `..`"),
    "encoded dots": (model(uri="https://store/%2E%2e/m.zip"), URI, "%2e"),
    "encoded NUL": (model(uri="https://store/m%00.zip"), URI, "%00"),
    "backslash": (model(uri="pvc://models/a\\b"), URI, "backslashes"),
    "line break": (model(uri="pvc://models/a\nb"), URI, "control characters"),
    "text direction mark": (model(uri="pvc://models/a\u202eb"), URI, "control characters"),
    "space": (model(uri="pvc://models/a b"), URI, "must not contain white space"),
    "fragment": (model(uri="https://store/m.zip#x"), URI, "`#`"),
    "scheme within an address": (model(uri="file://s3://models/m"), URI, SCHEMES),
    "account in upper case": (model(uri="azureblob://Acct/models/m"), URI, AZURE),
    "account with a domain": (model(uri="azureblob://acct.blob.example/models/m"), URI, AZURE),
    "no container": (model(uri="azureblob://acct"), URI, AZURE),
    "signed blob": (model(uri="azureblob://acct/models/m?sig=x"), URI, AZURE),
    "dots in a blob's path": (model(uri="azureblob://acct/models/../m"), URI, "must not contain `..`"),
    "no bucket": (model(uri="s3:///m"), URI, BUCKET),
    "bucket in upper case": (model(uri="gs://Models/m"), URI, BUCKET),
    "bucket with a port": (model(uri="s3://models:9000/m"), URI, BUCKET),
    "image without repository": (model(uri="oci://registry.example"), URI, IMAGE),
    "image in upper case": (model(uri="oci://registry.example/Vision:1"), URI, IMAGE),
    "image with an empty tag": (model(uri="oci://registry.example/vision:"), URI, IMAGE),
    "image with a short digest": (model(uri="oci://registry.example/vision@sha256:ab"), URI, IMAGE),
    "image with a user": (model(uri="oci://u:p@registry.example/vision"), URI, IMAGE),
    "both credentials": (
        model(uri="s3://models/m", credentials={"secretRef": {"name": "a"}, "serviceAccountName": "b"}),
        CREDENTIALS,
        ONE_CREDENTIAL,
    ),
    "no credentials": (
        model(uri="s3://models/m", credentials={}),
        CREDENTIALS,
        ONE_CREDENTIAL,
    ),
    "a reference to no secret": (
        model(uri="s3://models/m", credentials={"secretRef": {}}),
        f"{CREDENTIALS}.secretRef.name",
        "Required value",
    ),
    "credentials for a claim": (
        model(credentials={"secretRef": {"name": "a"}}),
        CREDENTIALS,
        "must be absent when `uri` starts with pvc://",
    ),
    "secret of another namespace": (
        model(uri="s3://models/m", credentials={"secretRef": {"name": "other/keys"}}),
        f"{CREDENTIALS}.secretRef.name",
        "should match",
    ),
    "account of another namespace": (
        model(uri="s3://models/m", credentials={"serviceAccountName": "../reader"}),
        f"{CREDENTIALS}.serviceAccountName",
        "should match",
    ),
    "model name with a slash": (model(name="a/b"), "spec.model.name", "should match"),
    "model name of dots": (model(name=".."), "spec.model.name", "should match"),
    "model name of a reserved file": (
        model(name="monitoring.config"),
        "spec.model.name",
        "must not be monitoring.config or batching.config",
    ),
    "model name of the other reserved file": (
        model(name="batching.config"),
        "spec.model.name",
        "must not be monitoring.config or batching.config",
    ),
    "model name too long": (model(name="a" * 64), "spec.model.name", "may not be more than 63"),
    "negative version": (model(version=-1), "spec.model.version", "greater than or equal to 0"),
    "version too large": (model(version=2**63), "spec.model.version", "less than or equal to"),
    "version as text": (model(version="3"), "spec.model.version", "must be of type integer"),
    "unknown framework": (model(framework="Caffe"), "spec.model.framework", '"TensorFlow"'),
    "short digest": (model(sha256="ab"), "spec.model.sha256", "at least 64"),
    "digest in upper case": (model(sha256="A" * 64), "spec.model.sha256", "should match"),
    "CA for a claim": (
        model(caConfigMapRef={"name": "ca"}),
        "spec.model.caConfigMapRef",
        "must be absent when `uri` starts with pvc://",
    ),
    "CA key with a path": (
        model(uri="https://s/m.zip", caConfigMapRef={"name": "ca", "key": "../ca"}),
        "spec.model.caConfigMapRef.key",
        "should match",
    ),
    "CA of another namespace": (
        model(uri="https://s/m.zip", caConfigMapRef={"name": "other/ca"}),
        "spec.model.caConfigMapRef.name",
        "should match",
    ),
    # --- the runtime
    "runtime name": (document(runtime={"name": "TF Serving"}), "spec.runtime.name", "should match"),
    "argument without dashes": (
        document(runtime={"args": ["--a=b", "value"]}),
        "spec.runtime.args[1]",
        "must start with `--`",
    ),
    "argument with one dash": (document(runtime={"args": ["-p=1"]}), "spec.runtime.args[0]", "must start"),
    "line break in an argument": (
        document(runtime={"args": ["--a=b\nc"]}),
        "spec.runtime.args[0]",
        "control characters",
    ),
    "expansion in an argument": (
        document(runtime={"args": ["--a=$(HOME)"]}),
        "spec.runtime.args[0]",
        "must not contain `$(`",
    ),
    "too many arguments": (
        document(runtime={"args": [f"--a{i}" for i in range(33)]}),
        "spec.runtime.args",
        "at most 32",
    ),
    "variable name": (env("A-B"), "spec.runtime.env[0].name", "should match"),
    "expansion in a variable": (env("A", "$(B)"), "spec.runtime.env[0].value", "must not contain `$(`"),
    "variable twice": (
        document(runtime={"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
        "spec.runtime.env[1]",
        "Duplicate value",
    ),
    "variable without value": (
        document(runtime={"env": [{"name": "A"}]}),
        "spec.runtime.env[0].value",
        "Required value",
    ),
    "batches without a size": (batching(timeoutMicros=1), f"{BATCHING}.maxBatchSize", "Required value"),
    "batches of none": (batching(maxBatchSize=0), f"{BATCHING}.maxBatchSize", "equal to 1"),
    "huge batches": (batching(maxBatchSize=65537), f"{BATCHING}.maxBatchSize", "equal to 65536"),
    "batches in the past": (
        batching(maxBatchSize=1, timeoutMicros=-1),
        f"{BATCHING}.timeoutMicros",
        "equal to 0",
    ),
    "batches that wait for more than a minute": (
        batching(maxBatchSize=1, timeoutMicros=60000001),
        f"{BATCHING}.timeoutMicros",
        "equal to 60000000",
    ),
    "no queue for batches": (
        batching(maxBatchSize=1, maxEnqueued=0),
        f"{BATCHING}.maxEnqueued",
        "equal to 1",
    ),
    **{
        f"batches by a field and {flag}": (
            batching("--a=1", flag, maxBatchSize=1),
            "spec.runtime.args",
            "must not contain --enable_batching or --batching_parameters_file when `batching` is set",
        )
        for flag in ("--enable_batching", "--enable_batching=false", "--batching_parameters_file=/b")
    },
    # --- numbers
    "negative replicas": (document(replicas=-1), "spec.replicas", "greater than or equal to 0"),
    "too many replicas": (document(replicas=10**9), "spec.replicas", "less than or equal to 1000"),
    "half a replica": (document(replicas=1.5), "spec.replicas", "must be of type int32"),
    # --- resources
    "no quantity": (document(resources={"requests": {"memory": "1GBi"}}), f"{REQUESTS}[memory]", "quantity"),
    "empty quantity": (document(resources={"limits": {"cpu": ""}}), "spec.resources.limits[cpu]", "quantity"),
    "negative quantity": (document(resources={"requests": {"cpu": -1}}), f"{REQUESTS}[cpu]", "at least 0"),
    "GPU as a resource": (
        document(resources={"requests": {"nvidia.com/gpu": 1}}),
        REQUESTS,
        "accelerators are asked for under spec.accelerator",
    ),
    "GPU as a limit": (
        document(resources={"limits": {"nvidia.com/gpu": 1}}),
        "spec.resources.limits",
        "accelerators are asked for under spec.accelerator",
    ),
    "limit under request": (
        document(resources={"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}),
        "spec.resources",
        "`limits` must not be lower than `requests`",
    ),
    # --- the rest
    "raw bytes as a boolean": (document(endpoint={"rawBytes": True}), "spec.endpoint.rawBytes", '"Enabled"'),
    "no time": (document(endpoint={"timeoutSeconds": 0}), "spec.endpoint.timeoutSeconds", "equal to 1"),
    "no requests": (
        document(endpoint={"maxConcurrentRequests": 0}),
        "spec.endpoint.maxConcurrentRequests",
        "equal to 1",
    ),
    "probe period": (
        document(probes={"liveness": {"periodSeconds": 0}}),
        "spec.probes.liveness.periodSeconds",
        "equal to 1",
    ),
    "pull secret of another namespace": (
        document(imagePullSecrets=[{"name": "other/secret"}]),
        "spec.imagePullSecrets[0].name",
        "should match",
    ),
    "label name": (
        document(podMetadata={"labels": {"-a": "b"}}),
        "spec.podMetadata.labels",
        "must have valid label names",
    ),
    "label value too long": (
        document(podMetadata={"labels": {"a": "b" * 64}}),
        "spec.podMetadata.labels.a",
        "may not be more than 63",
    ),
    "annotation name": (
        document(podMetadata={"annotations": {"a/b/c": "d"}}),
        "spec.podMetadata.annotations",
        "must have valid annotation names",
    ),
    "label of ReplicaSets": (
        document(podMetadata={"labels": {"pod-template-hash": "x"}}),
        "spec.podMetadata.labels",
        "nor pod-template-hash",
    ),
    "host network": (document(hostNetwork=True), "", 'unknown field "spec.hostNetwork"'),
}
