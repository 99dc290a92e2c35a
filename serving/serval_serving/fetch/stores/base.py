"""What every store is: an address that was read, and a way to bring the model from there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

from serval_contract.schemes import Scheme
from serval_serving.fetch.acquire import Brought
from serval_serving.fetch.credentials import Forms
from serval_serving.fetch.settings import FetchContext


class Store(ABC):
    """One address of a model, in the terms of its scheme.

    Attributes
    ----------
    scheme:
        The scheme of all addresses of this class.
    secret_keys:
        Keys that are read of the Secret with the credentials, and the form of each value. Others are ignored.
    """

    __slots__ = ()
    scheme: ClassVar[Scheme]
    secret_keys: ClassVar[Forms] = MappingProxyType({})

    @classmethod
    @abstractmethod
    def parse(cls, uri: str) -> Self:
        """Read an address that begins with this scheme, in any case of letters.

        It takes every address that `scheme` accepts and that has no part ``..``; it may take more.

        Raises
        ------
        FetchError
            A part is malformed, or the address carries a user name or password.
        """

    @abstractmethod
    def bring(self, context: FetchContext, staging: Path) -> Brought:
        """Put the wanted version of the model into `staging`, an empty folder.

        Raises
        ------
        FetchError
            The model cannot be had, is not the expected one, or holds what is refused.
        """
