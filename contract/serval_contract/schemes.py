"""Where a model may be: the schemes of ``spec.model.uri`` and the form of their addresses.

The operator checks addresses by `Scheme.pattern`, and the CEL rules of the CRD are made from it. The patterns
use only syntax that Python and RE2 (CEL) share. The fetcher's package `stores` has one module per scheme, of
the same name, that fetches models from such addresses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_BUCKET: Final = r"[a-z0-9][-a-z0-9._]{1,220}[a-z0-9](/[^?]*)?"


@dataclass(frozen=True, slots=True)
class Scheme:
    """One scheme.

    Parameters
    ----------
    name:
        What is before ``://``, in lower case.
    form:
        How an address is written, for messages; parts to fill in are in capitals.
    rest:
        Regular expression of all that follows ``://``.
    takes_credentials:
        Whether `spec.model.credentials` may be set.
    """

    name: str
    form: str
    rest: str
    takes_credentials: bool = True

    @property
    def prefix(self) -> str:
        """The start of every address, ``name://``."""
        return f"{self.name}://"

    @property
    def pattern(self) -> str:
        """Regular expression of a whole address, without anchors."""
        return self.prefix + self.rest

    def accepts(self, uri: str) -> bool:
        """Whether `uri` has the form of this scheme's addresses."""
        return re.fullmatch(self.pattern, uri) is not None


PVC: Final = Scheme(
    "pvc", "pvc://CLAIM/PATH", r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?(/[^?]*)?", takes_credentials=False
)
HTTPS: Final = Scheme(
    "https",
    "https://HOST/PATH",
    r"([^/?]*@)?([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?/[!->@-~][!-~]*",
)
AZUREBLOB: Final = Scheme(
    "azureblob",
    "azureblob://ACCOUNT/CONTAINER/PATH",
    r"[a-z0-9]{3,24}/[a-z0-9][-a-z0-9]{1,61}[a-z0-9](/[^?]*)?",
)
S3: Final = Scheme("s3", "s3://BUCKET/PATH", _BUCKET)
GS: Final = Scheme("gs", "gs://BUCKET/PATH", _BUCKET)
OCI: Final = Scheme(
    "oci",
    "oci://REGISTRY/REPOSITORY:TAG",
    r"[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+"
    r"(:[a-zA-Z0-9_][-a-zA-Z0-9_.]{0,127})?(@sha256:[a-f0-9]{64})?",
)
SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {one.name: one for one in (PVC, HTTPS, AZUREBLOB, S3, GS, OCI)}
)
"""All schemes by name, in the order in which messages list them."""
PREFIXES: Final = tuple(one.prefix for one in SCHEMES.values())
