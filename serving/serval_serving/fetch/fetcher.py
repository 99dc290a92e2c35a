"""One fetch, from the URI to the published version."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from serval_contract.pin import Pin
from serval_contract.reasons import MODEL_NOT_FOUND
from serval_contract.report import FetchReport
from serval_serving.fetch.acquire import Brought
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError, invalid
from serval_serving.fetch.model.models_folder import ModelsFolder
from serval_serving.fetch.model.version_pin import compare, missed, read_pin
from serval_serving.fetch.progress import human
from serval_serving.fetch.report import report_of
from serval_serving.fetch.settings import FetchContext, FetchSettings
from serval_serving.fetch.sources import public_uri
from serval_serving.fetch.stores import store_of
from serval_serving.fetch.stores.base import Store
from serval_serving.models.folder_digest import folder_content
from serval_serving.models.savedmodel import ModelInvalid, Signature

_LOG: Final = logging.getLogger("serval.fetch")


class Fetcher:
    """Fetches one model.

    Parameters
    ----------
    settings:
        What to fetch.
    environment:
        Clock and network.
    """

    def __init__(self, settings: FetchSettings, environment: Environment) -> None:
        self._settings = settings
        self._environment = environment

    def run(self) -> FetchReport:
        """Fetch the model and publish it.

        Raises
        ------
        FetchError
            If that cannot be done; nothing is published then.
        OSError
            If the destination cannot be written.
        """
        settings, clock = self._settings, self._environment.clock
        started = clock()
        store = store_of(settings.uri)
        pin = read_pin(settings.pin_file) if settings.version is None else None
        context = FetchContext.begin(
            settings, self._environment, settings.version if pin is None else pin.version
        )
        _LOG.info("fetching %s", public_uri(settings.uri))
        folder = ModelsFolder(settings.dest, settings.batching)
        with folder.staging() as staging:
            brought = _bring(context, store, pin, staging)
            located = brought.located
            signature = _read(context, brought)
            content = folder_content(located.folder)
            digest = f"sha256:{content.sha256}"
            if not brought.compared:
                context.compare(content.sha256, "the files")
            if pin is not None:
                compare(pin, digest)
            folder.publish(located.folder, settings.name, located.version, digest)
        seconds = clock() - started
        _LOG.info("%s version %d: %s in %.1f s", settings.name, located.version, human(content.size), seconds)
        return report_of(
            version=located.version,
            digest=digest,
            size=content.size,
            seconds=seconds,
            signature=signature,
            pinned=pin is not None,
        )


def _bring(context: FetchContext, store: Store, pin: Pin | None, staging: Path) -> Brought:
    """Put the files into `staging` and say where the version is."""
    try:
        return store.bring(context, staging)
    except FetchError as error:
        if pin is not None and error.reason == MODEL_NOT_FOUND:
            raise missed(pin, error) from error
        raise


def _read(context: FetchContext, brought: Brought) -> Signature | None:
    """Read the model's signatures, so that what cannot be served fails here, with a name."""
    located = brought.located
    try:
        return context.wanted.framework.read(located.folder, context.settings.tags)
    except ModelInvalid as error:
        raise invalid(f"version {located.version}: {error}") from error
