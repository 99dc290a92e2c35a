"""Where models come from: one module for each scheme of ``serval_contract.schemes``, named like the scheme.

A module defines one class, `STORE`, with the addresses of its scheme, the keys of its Secret, and how a model
is brought from there (`base.Store`). Modules are imported when an address asks for them, so that a fetch pays
for the libraries of its own store only. `bucket` is what the object stores share.
"""

from __future__ import annotations

from importlib import import_module

from serval_contract.schemes import PREFIXES, SCHEMES
from serval_serving.fetch.errors import not_found
from serval_serving.fetch.sources import public_uri
from serval_serving.fetch.stores.base import Store


def store_class(scheme: str) -> type[Store]:
    """Return the class of a scheme, which must be one of `SCHEMES`."""
    found: type[Store] = import_module(f"{__name__}.{scheme}").STORE
    return found


def store_of(uri: str) -> Store:
    """Read the address of a model.

    Raises
    ------
    FetchError
        The scheme is unknown, a part is malformed, or the address carries a user name or password.
    """
    scheme = uri.partition(":")[0].lower()
    if scheme not in SCHEMES:
        raise not_found(f"the URI {public_uri(uri)} begins with none of {', '.join(PREFIXES)}")
    return store_class(scheme).parse(uri)
