"""Leader election: of several operators, the one that holds a Lease is active.

Clocks of two machines are never compared, and setting a clock to another time does no harm. The holder writes
nothing when the API server has not confirmed the Lease for a while; a standby takes over when the record has
not changed for longer than that. Each measures with its own monotonic clock. A holder that no standby
replaced meanwhile goes on when it has renewed the Lease: an API server that is away for long ends no process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from serval_operator.api.resources import LEASES
from serval_operator.constants import MAX_LEASE_SECONDS
from serval_operator.errors import Conflict, KubeError, LeaseLost
from serval_operator.runtime.kube_api import KubeApi, Object

GIVE_UP = 2 / 3
"""Part of the Lease's seconds after which a holder that cannot renew begins no write."""
CUT_OFF = 14 / 15
"""Part of the Lease's seconds after which writes that are still under way are cut off. The rest is for the
API server, which stops working on a request when its connection is closed."""
RENEW = 1 / 5
LOOK = 1 / 10
"""Parts of the Lease's seconds: the interval of renewals, and the interval of a standby's reads."""
RETRY = 1 / 15
CALL = 1 / 3
"""Parts of the Lease's seconds: the pause after a failed renewal, and the time limit of one attempt."""
RELEASE_SECONDS = 3.0
"""Limit of the release of a Lease, so that a long Lease does not delay the end of the process."""

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"

_log = logging.getLogger(__name__)


def uptime() -> float:
    """Return monotonic seconds that include sleep of the machine, because a Lease expires during sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """Acquires a Lease, renews it, and releases it.

    Parameters
    ----------
    api:
        Used only here, so that a renewal never queues behind other requests.
    identity:
        Unique to this process, also among earlier processes with the same name.
    seconds:
        How long the record must be unchanged before another process takes it over; longer if the record says
        so.
    clock:
        Monotonic seconds.
    now:
        Aware time, for readers of the record.

    Attributes
    ----------
    standing:
        The holder that this process waits for; empty while it holds the Lease. For logs and probes.
    trouble:
        Why the last read or write of the Lease failed; empty if it succeeded.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        name: str,
        identity: str,
        *,
        seconds: int,
        clock: Callable[[], float] = uptime,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._lease: Object | None = None
        self._confirmed: float | None = None
        self._unanswered = False
        self._seen: Mapping[str, Any] = {}
        self._version = ""
        self._seen_at: float | None = None
        self.standing = ""
        self.trouble = ""

    def held(self) -> bool:
        """Whether the Lease is ours, confirmed so recently that no other process can have taken it."""
        return self._confirmed is not None and self._clock() < self._confirmed + self._seconds * GIVE_UP

    def write_seconds(self) -> float:
        """Return how long a write may be under way from now on; 0 if none may begin.

        No other process takes the Lease over in this time.
        """
        if self._confirmed is None or not self.held():
            return 0.0
        return self._confirmed + self._seconds * CUT_OFF - self._clock()

    async def acquire(self) -> None:
        """Wait without a time limit until the Lease is ours."""
        while True:
            try:
                async with asyncio.timeout(self._seconds * CALL):
                    acquired = await self._try()
            except (KubeError, TimeoutError) as error:
                self._failed(error)
            else:
                self.trouble = ""
                if acquired:
                    self.standing = ""
                    _log.info("%s holds %s", self._identity, self)
                    return
            await self._sleep(self._seconds * LOOK)

    async def hold(self) -> None:
        """Renew the Lease until it is lost. After its time is up, it is not held until it is renewed.

        Raises
        ------
        LeaseLost
            Another process has it, or had it.
        """
        while True:
            await self._sleep(self._seconds * RENEW)
            await self._renew()

    async def release(self) -> None:
        """Release the Lease, so that no standby has to wait until it expires. It is not held afterwards.

        It is also released if a write of it was interrupted, because that write may have acquired it.
        """
        held, self._confirmed = self.held(), None
        if not held and not self._unanswered:
            return
        try:
            async with asyncio.timeout(min(self._seconds * CALL, RELEASE_SECONDS)):
                # Read it again, because the last write may have been interrupted.
                found = await self._api.get(LEASES, self._namespace, self._name)
                if found and found["spec"].get("holderIdentity") == self._identity:
                    await self._api.update(LEASES, self._manifest(found, holder=None))
        except (KubeError, TimeoutError) as error:
            _log.warning("%s could not be given back, others wait %d s: %s", self, self._seconds, error)

    def __str__(self) -> str:
        return f"Lease {self._namespace}/{self._name}"

    async def _try(self) -> bool:
        """Read the Lease, and take it if possible. Return whether it is ours."""
        found = await self._api.get(LEASES, self._namespace, self._name)
        if not self._free(found):
            return False
        try:
            await self._write(found)
        except Conflict:
            return False
        return True

    def _free(self, found: Object | None) -> bool:
        """Whether the Lease may be taken."""
        if found is None and self._seen_at is None:
            return True
        # A deleted record counts as unchanged: its holder may not know yet.
        if found is not None and found["metadata"]["resourceVersion"] != self._version:
            self._seen, self._version = found.get("spec") or {}, found["metadata"]["resourceVersion"]
            # The clock is read after the answer, so after the holder's write: at worst the time is too late.
            self._seen_at = self._clock()
        spec, seen_at = self._seen, self._seen_at or 0.0
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        if self.standing != holder:
            self.standing = holder
            _log.info("standing by: %s holds %s", holder, self)
        return self._clock() - seen_at >= self._duration(spec)

    def _duration(self, spec: Mapping[str, Any]) -> float:
        """Return the holder's seconds by its record, which may come from another configuration."""
        claimed = spec.get("leaseDurationSeconds")
        if isinstance(claimed, int) and claimed > 0:
            return max(self._seconds, min(claimed, MAX_LEASE_SECONDS))
        return self._seconds

    async def _renew(self) -> None:
        """Renew once, with as many attempts as that takes."""
        lapsed = False
        while True:
            try:
                async with asyncio.timeout(self._seconds * CALL):
                    await self._confirm()
            except (KubeError, TimeoutError) as error:
                self._failed(error)
                if not lapsed and not self.held():
                    lapsed = True
                    _log.warning("%s is not held; nothing is written until it is renewed", self)
                await self._sleep(self._seconds * RETRY)
            else:
                self.trouble = ""
                if lapsed:
                    _log.warning("%s is held again", self)
                return

    async def _confirm(self) -> None:
        """Update the record. If another client has changed it, update it only if it still names us."""
        try:
            await self._write(self._lease)
        except Conflict:
            found = await self._api.get(LEASES, self._namespace, self._name)
            holder = ((found or {}).get("spec") or {}).get("holderIdentity")
            if found is None or holder != self._identity:
                self._confirmed = None
                raise LeaseLost(f"{self} is held by {holder or 'nobody'}") from None
            await self._write(found)
        except KubeError as error:
            if error.status != 404:
                raise
            # It was deleted. A standby that has seen our name in it waits as if it still existed.
            await self._write(None)

    async def _write(self, lease: Object | None) -> None:
        """Write the record with our name. It is confirmed from the time of sending, not of the answer."""
        sent = self._clock()
        manifest = self._manifest(lease, holder=self._identity)
        send = self._api.update if lease else self._api.create
        self._unanswered = True
        try:
            self._lease = await send(LEASES, manifest)
        except KubeError as error:
            # After an error of the server or of the connection, the write may have taken place.
            self._unanswered = not 400 <= error.status < 500
            raise
        self._unanswered = False
        self._confirmed = sent

    def _manifest(self, lease: Object | None, *, holder: str | None) -> Object:
        lease = lease or {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"namespace": self._namespace, "name": self._name},
        }
        spec = lease.get("spec") or {}
        now = self._now().astimezone(UTC)
        if now.strftime(TIME) == spec.get("renewTime"):
            # An update without changes gives no new version, which others need to see that we are alive.
            now += timedelta(microseconds=1)
        moment = now.strftime(TIME)
        wanted = {
            **spec,
            "holderIdentity": holder,
            "leaseDurationSeconds": self._seconds,
            "renewTime": moment,
        }
        if holder not in (None, spec.get("holderIdentity")):
            wanted |= {"acquireTime": moment, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        return {**lease, "spec": wanted}

    def _failed(self, error: Exception) -> None:
        """Record a failure; it is logged if it differs from the previous one."""
        text = str(error) or "no answer in time"
        if text != self.trouble:
            _log.warning("%s: %s", self, text)
        self.trouble = text
