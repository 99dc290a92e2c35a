"""Which kinds can be listed and watched in which namespaces, and which objects may therefore be reconciled.

A kind, or one namespace of it, can be missing (no CRD), forbidden (no Role) or older than the operator. It is
then off: its objects are left alone, and nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from serval_operator.api.naming import Key
from serval_operator.api.resources import Resource
from serval_operator.errors import KubeError

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Bounds, in seconds, of the pause before something that was refused is tried again."""
LASTING_REFUSALS = 3
"""This number of refusals in a row, about 1.5 seconds, counts as lasting. At a start, a Role or a CRD may
come a moment later, and an API server that starts refuses kinds that it does not know yet."""
REFUSALS = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
"""Answers that stay the same until the cluster is changed."""

_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """A kind in a namespace; None for all namespaces, and for a kind that has none."""

    resource: Resource
    namespace: str | None

    def __str__(self) -> str:
        """Text for logs and the readiness page."""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.resource.plural}{where}"


def sources(resources: Iterable[Resource], namespaces: Sequence[str | None]) -> tuple[Source, ...]:
    """Return what to list and watch of some kinds in some namespaces; a single None for all namespaces."""
    return tuple(Source(kind, place) for kind in resources for place in kind.places(namespaces))


def is_refusal(error: KubeError) -> bool:
    """Whether an error means that a kind or namespace is missing or forbidden."""
    return error.status in REFUSALS


@dataclass(slots=True)
class _State:
    """The state of a source.

    Attributes
    ----------
    wanted:
        False while the operator does without it on purpose.
    listed:
        Whether it was listed since it was last refused.
    watch_refused:
        Whether its last watch was refused. A listing that succeeds does not show that it can be watched.
    refusals:
        How often it was refused since it was last on.
    problem:
        Words of the last refusal or failure.
    told:
        Whether the log says that it is off.
    """

    wanted: bool = True
    listed: bool = False
    watch_refused: bool = False
    refusals: int = 0
    problem: str = ""
    told: bool = False


class Availability:
    """The state of everything that is watched.

    Parameters
    ----------
    watched:
        All sources.
    needs:
        By kind of custom resource, the kinds of children without which its objects must not be reconciled:
        what cannot be seen would be created again.
    on_change:
        Called with each source that comes on or goes off.
    """

    def __init__(
        self,
        watched: Sequence[Source],
        needs: Mapping[Resource, Collection[Resource]],
        on_change: Callable[[Source], None] = lambda _: None,
    ) -> None:
        self.sources = tuple(watched)
        kinds = {source.resource for source in watched}
        self._needs = {kind: kinds.intersection(needs[kind]) for kind in needs}
        self._on_change = on_change
        self._states = {source: _State() for source in watched}
        self._on: set[Source] = set()
        self._outdated: dict[Resource, str] = {}
        self._served: frozenset[tuple[str, str | None]] = frozenset()
        self._changed: asyncio.Future[None] | None = None

    # --- what was learned -----------------------------------------------------------------------------

    def unwanted(self, source: Source) -> None:
        """The operator does without a source, because it is optional and not allowed."""
        self._states[source].wanted = False

    def wanted(self, source: Source) -> None:
        """The operator needs a source from now on."""
        self._states[source].wanted = True

    def listed(self, source: Source) -> None:
        """A source was listed into its store."""
        self._states[source].listed = True
        self._update(source)

    def refused(self, source: Source, problem: str) -> None:
        """A source cannot be listed: missing or forbidden."""
        state = self._states[source]
        state.listed, state.problem = False, problem
        state.refusals += 1
        self._update(source)

    def failed(self, source: Source, problem: str) -> None:
        """A source could not be listed for a reason that may pass; its cached objects stay valid."""
        self._states[source].problem = problem

    def watch_refused(self, source: Source, problem: str) -> None:
        """A source cannot be watched: missing or forbidden. It has to be listed before the next watch."""
        self._states[source].watch_refused = True
        self.refused(source, problem)

    def watch_accepted(self, source: Source) -> None:
        """The API server accepted a watch of a source."""
        if self._states[source].watch_refused:
            self._states[source].watch_refused = False
            self._update(source)

    def schema(self, resource: Resource, missing: Sequence[str]) -> None:
        """The schema of a kind was compared with the cluster's, which lacks some fields, or none."""
        if missing:
            self._outdated[resource] = (
                f"the CustomResourceDefinition is older than the operator and lacks {', '.join(missing)}"
            )
        else:
            self._outdated.pop(resource, None)
        for source in self.sources:
            if source.resource == resource:
                self._update(source)

    # --- what follows ---------------------------------------------------------------------------------

    def is_listed(self, source: Source) -> bool:
        """Whether a source was listed and can be watched, as far as is known."""
        return self._states[source].listed

    def is_wanted(self, source: Source) -> bool:
        """Whether the operator needs a source."""
        return self._states[source].wanted

    def is_on(self, source: Source) -> bool:
        """Whether a source can be listed and watched, and its kind is as new as the operator."""
        return source in self._on

    def serves(self, key: Key) -> bool:
        """Whether an object may be reconciled: its kind and all children that it needs are seen there."""
        return (key.kind, key.namespace) in self._served or (key.kind, None) in self._served

    def serves_any(self) -> bool:
        """Whether there is a kind and namespace whose objects are reconciled."""
        return bool(self._served)

    def outdated(self) -> bool:
        """Whether the CRD of a kind is older than the operator."""
        return bool(self._outdated)

    def can_begin(self) -> bool:
        """Whether all that can be listed was listed, and custom resources among it."""
        settled = all(
            state.listed or state.refusals >= LASTING_REFUSALS
            for state in self._states.values()
            if state.wanted
        )
        return settled and self.some_listed()

    def some_listed(self) -> bool:
        """Whether custom resources of at least one kind were listed in at least one namespace."""
        return any(self._states[one].listed for one in self.sources if one.resource in self._needs)

    def off(self) -> dict[Source, str]:
        """Sources that are off, with the reason."""
        return {
            source: self._outdated.get(source.resource, "") or state.problem or "not listed yet"
            for source, state in self._states.items()
            if state.wanted and source not in self._on
        }

    def up(self) -> dict[tuple[str, ...], float]:
        """By plural and namespace (empty for all), 1 for a source that is on and 0 for one that is off."""
        return {
            (source.resource.plural, source.namespace or ""): float(source in self._on)
            for source, state in self._states.items()
            if state.wanted
        }

    def pause(self, source: Source) -> float:
        """Seconds to wait before a source is listed; 0 unless it was refused."""
        refusals = self._states[source].refusals
        if not refusals:
            return 0.0
        pause = min(FIRST_PAUSE * 2.0 ** min(refusals - 1, 10), LONGEST_PAUSE)
        return pause * random.uniform(0.8, 1.0)  # noqa: S311 - no secret

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that follows from this state."""
        while not holds():
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)

    def _update(self, source: Source) -> None:
        """Draw the conclusions of what was learned about a source."""
        state, before = self._states[source], source in self._on
        outdated = self._outdated.get(source.resource, "")
        well = state.listed and not state.watch_refused
        if well:
            state.refusals = 0
        now = not outdated and (well or (before and state.refusals < LASTING_REFUSALS))
        self._tell(source, state, outdated, on=now)
        if well:
            state.problem = ""
        if now != before:
            self._on ^= {source}
            self._served = frozenset(
                (one.resource.kind, one.namespace) for one in self._on if self._complete(one)
            )
            self._on_change(source)
        self._notify()

    def _tell(self, source: Source, state: _State, outdated: str, *, on: bool) -> None:
        """Log once that a source is off, and once that it is back."""
        if on and state.told:
            _log.info("%s can be served again", source)
        elif not on and not state.told and (state.refusals >= LASTING_REFUSALS or outdated):
            _log.warning("%s cannot be served, will try again: %s", source, outdated or state.problem)
        else:
            return
        state.told = not on

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None

    def _complete(self, source: Source) -> bool:
        """Whether a source that is on is one of custom resources, and all children that they need are on."""
        if source.resource not in self._needs:
            return False
        return all(
            Source(child, source.namespace) in self._on or Source(child, None) in self._on
            for child in self._needs[source.resource]
        )
