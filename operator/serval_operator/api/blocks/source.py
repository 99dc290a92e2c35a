"""Where a model's files are, and who fetches them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from serval_contract.models import FRAMEWORKS, TENSORFLOW
from serval_contract.paths import RESERVED_NAMES
from serval_contract.schemes import AZUREBLOB, HTTPS, OCI, PREFIXES, PVC, S3, SCHEMES, Scheme
from serval_operator.api.blocks.names import listed, object_name
from serval_operator.api.parse import invalid
from serval_operator.api.schema import MAX_INT64, Block, Nested, Rule, Text, Whole, Words


def _address_rule(scheme: Scheme, message: str) -> Rule:
    """Return the rule for the addresses of one scheme; CEL reads its pattern as a text with escapes."""
    pattern = scheme.pattern.replace("\\", r"\\")
    return Rule(f"!self.startsWith('{scheme.prefix}') || self.matches('^{pattern}$')", message)


_ADDRESS_RULES = (
    Rule(
        f"self.matches('^({'|'.join(SCHEMES)})://')",
        f"must start with {listed(PREFIXES, 'or')}",
    ),
    _address_rule(
        PVC,
        "must be pvc://CLAIM/PATH, where CLAIM is the name of a PersistentVolumeClaim (lower-case letters, "
        "digits, `-` and `.`) and PATH has no `?`",
    ),
    _address_rule(HTTPS, "must be https://HOST/PATH or https://HOST:PORT/PATH, in ASCII characters"),
    _address_rule(
        AZUREBLOB,
        "must be azureblob://ACCOUNT/CONTAINER/PATH, where ACCOUNT is the name of a storage account and "
        "PATH has no `?`",
    ),
    Rule(
        f"!self.matches('^(s3|gs)://') || self.matches('^(s3|gs)://{S3.rest}$')",
        "must be s3://BUCKET/PATH or gs://BUCKET/PATH, where BUCKET is at least 3 lower-case letters, "
        "digits, `-`, `.` and `_`, and PATH has no `?`",
    ),
    _address_rule(OCI, "must be oci://REGISTRY/REPOSITORY with :TAG, @sha256:DIGEST or both behind it"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapKey(Block):
    """A key of a ConfigMap in the same namespace."""

    name: Annotated[str, object_name("Name of the ConfigMap.")]
    key: Annotated[
        str,
        Text(
            "Key in the ConfigMap.",
            max_length=253,
            min_length=1,
            pattern="^[a-zA-Z0-9_-][-._a-zA-Z0-9]*$",
            stored=True,
        ),
    ] = "ca.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef(Block):
    """A Secret in the same namespace."""

    name: Annotated[str, object_name("Name of the Secret.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials(Block):
    """Identity of the container that fetches the model: `spec.model.credentials`. One of both is set."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.secretRef) != has(self.serviceAccountName)",
            "exactly one of `secretRef` and `serviceAccountName` must be set",
        ),
    )

    secret_ref: Annotated[
        SecretRef | None,
        Nested(
            "A Secret in the same namespace. Only the container that fetches the model sees its keys, "
            "as files. For an oci address it is a pull secret.",
            SecretRef,
        ),
    ] = None
    service_account_name: Annotated[
        str,
        object_name(
            "Name of a ServiceAccount in the same namespace that the pods run as. It must have the "
            'label serval.dev/allowed with the value "true", set by its owner.'
        ),
    ] = ""

    @property
    def secret_name(self) -> str:
        """Name of the Secret, or an empty text."""
        return self.secret_ref.name if self.secret_ref else ""

    def check(self, path: str) -> None:
        """Check that exactly one identity is set."""
        if bool(self.secret_ref) == bool(self.service_account_name):
            raise invalid(f"`{path}` must have either `secretRef` or `serviceAccountName`")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource(Block):
    """What to serve, and where its files are: `spec.model`."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.caConfigMapRef) || !self.uri.startsWith('pvc://')",
            "must be absent when `uri` starts with pvc://, which has no connection",
            field_path=".caConfigMapRef",
        ),
        Rule(
            "!has(self.credentials) || !self.uri.startsWith('pvc://')",
            "must be absent when `uri` starts with pvc://, which needs none",
            field_path=".credentials",
        ),
    )

    uri: Annotated[
        str,
        Text(
            "Where the model is. `pvc://CLAIM/PATH` is a directory in a PersistentVolumeClaim of the "
            "same namespace, which is mounted read-only; `https://HOST/PATH` is an archive (.tar, "
            ".tar.gz, .tar.zst or .zip); `azureblob://ACCOUNT/CONTAINER/PATH`, `s3://BUCKET/PATH` and "
            "`gs://BUCKET/PATH` are in an object store; `oci://REGISTRY/REPOSITORY:TAG` (or "
            "@sha256:...) is an image. Each holds a model, or a base path with one numbered directory "
            "per version. A space in a path is written %20.",
            max_length=1024,
            rules=(
                *_ADDRESS_RULES,
                Rule("!self.matches('^https://[^/?]*@')", "must not carry a user name or password"),
                Rule(
                    "!self.contains('..') && !self.matches('(?i)%(2e|5c|00)')",
                    "must not contain `..`, nor an encoded dot, backslash or NUL (%2e, %5c, %00)",
                ),
                Rule(
                    r"!self.matches('[\\pC\\pZ\\\\#]')",
                    "must not contain white space, control characters, backslashes or `#`",
                ),
            ),
        ),
    ]
    name: Annotated[
        str,
        Text(
            "Name under which clients ask for the model. The default is the name of this object.",
            max_length=63,
            min_length=1,
            pattern="^[a-zA-Z0-9][a-zA-Z0-9._-]*$",
            rules=(
                Rule(
                    f"!(self in {list(RESERVED_NAMES)})",
                    f"must not be {' or '.join(RESERVED_NAMES)}, files that lie beside the model",
                ),
            ),
        ),
    ] = ""
    version: Annotated[
        int | None,
        Whole(
            "Version to serve, the number of a directory in the base path. When absent, the highest "
            "that is found. A SavedModel without a numbered directory gets this number, or 1.",
            0,
            MAX_INT64,
        ),
    ] = None
    framework: Annotated[
        str,
        Words(
            "Framework of the model's files. When absent, TensorFlow. Where `runtime` names none, one "
            "that serves the framework is taken.",
            FRAMEWORKS,
        ),
    ] = TENSORFLOW
    sha256: Annotated[
        str,
        Text(
            "SHA-256 that the model must have, in lower-case hexadecimal digits. Of an archive, that "
            "of the archive; of a directory or an image, the digest that `status.model.digest` shows.",
            max_length=64,
            min_length=64,
            pattern="^[a-f0-9]{64}$",
        ),
    ] = ""
    ca_config_map_ref: Annotated[
        ConfigMapKey | None,
        Nested(
            "Certificate authorities to trust in addition to the public ones, for the address itself, an "
            "object store's endpoint or a registry: a key of a ConfigMap in the same namespace, in PEM. An "
            "image is fetched then, not mounted by the node, which would not know the authority.",
            ConfigMapKey,
        ),
    ] = None
    credentials: Annotated[
        Credentials | None,
        Nested(
            "Identity that fetches the model: a Secret with keys of the model's store, or a "
            "ServiceAccount to which the cloud gives an identity. When absent, the model is fetched "
            "anonymously.",
            Credentials,
        ),
    ] = None

    @property
    def scheme(self) -> str:
        """Scheme of the address, in lower case."""
        return self.uri.partition("://")[0].lower()

    @property
    def claim(self) -> str:
        """Name of the persistent volume claim of a ``pvc://`` address."""
        return self.uri.partition("://")[2].partition("/")[0]

    @property
    def image(self) -> str:
        """Reference of the image of an ``oci://`` address."""
        return self.uri.partition("://")[2]

    def check(self, path: str) -> None:
        """Check the address, the reserved names, and that the store takes credentials."""
        scheme = _scheme(f"{path}.uri", self.uri)
        if self.name in RESERVED_NAMES:
            raise invalid(f"`{path}.name` must not be the reserved name `{self.name}`")
        if self.credentials and not scheme.takes_credentials:
            raise invalid(
                f"`{path}.credentials` must be absent where `{path}.uri` starts with {scheme.prefix}"
            )


def _scheme(path: str, uri: str) -> Scheme:
    """Return the scheme of an address, whose form is checked."""
    name, _, rest = uri.partition("://")
    scheme = SCHEMES.get(name.lower())
    if scheme is None or not rest:
        raise invalid(f"`{path}` must be an address that starts with one of {', '.join(PREFIXES)}")
    if ".." in rest.split("/") or "%2e" in rest.lower() or "\\" in rest or not uri.isprintable():
        raise invalid(f"`{path}` must not contain `..`, encoded dots, backslashes or control characters")
    if not scheme.accepts(scheme.prefix + rest):
        raise invalid(f"`{path}` must have the form {scheme.form}")
    return scheme
