"""One operator of several works: a Lease says which.

No clock of another machine is ever compared with ours, and a clock that is set to another time harms nobody.
Who holds the Lease gives up when the API server has not confirmed that for a while; who waits takes over when
the record has stayed as it is for longer than that. Both measure by a clock of their own that only grows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from serval_operator.constants import MAX_LEASE_SECONDS
from serval_operator.errors import Conflict, KubeError, LeaseLost
from serval_operator.kube.protocol import LEASES, KubeApi, Object

GIVE_UP = 2 / 3
"""Of the Lease's seconds, after how much a holder gives up that could not renew. The rest is for what it sent
last and is still under way."""
RENEW = 1 / 5
LOOK = 1 / 10
"""Of the Lease's seconds, how often it is renewed, and how often those who wait look at it."""
RETRY = 1 / 15
CALL = 1 / 3
"""Of the Lease's seconds, the pause after a renewal that failed, and the limit of one attempt."""

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"

_log = logging.getLogger(__name__)


def uptime() -> float:
    """Seconds that only grow, also while the machine sleeps: a Lease runs out meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """Acquires a Lease, keeps it, and gives it back.

    Parameters
    ----------
    api:
        Used for nothing else, so that a renewal never queues behind other requests.
    identity:
        Of this process and no other, whatever ran before under the same name.
    seconds:
        How long the record must stay as it is before others take it over; or longer, if it says so itself.
    clock:
        Seconds that only grow.
    now:
        Aware time, for people who read the record.

    Attributes
    ----------
    standing:
        For people: what this process waits for; empty once it holds the Lease.
    trouble:
        Why the Lease could not be looked at or written the last time; empty if it could.
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
        self._seen: Mapping[str, Any] = {}
        self._version = ""
        self._seen_at: float | None = None
        self.standing = ""
        self.trouble = ""

    def held(self) -> bool:
        """Whether the Lease is ours, confirmed so lately that nobody else can have taken it."""
        return self._left() > 0

    async def acquire(self) -> None:
        """Wait until the Lease is ours, however long that takes."""
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
        """Renew the Lease for ever.

        Raises
        ------
        LeaseLost
            Somebody else has it, or it could not be renewed in time.
        """
        while True:
            await self._sleep(self._seconds * RENEW)
            await self._renew()

    async def release(self) -> None:
        """Give the Lease back, so that nobody has to wait for its end. From now on it is not held."""
        held, self._confirmed = self.held(), None
        if not held:
            return
        try:
            async with asyncio.timeout(self._seconds * CALL):
                # Read anew: the last renewal may have been cut off in the middle.
                found = await self._api.get(LEASES, self._namespace, self._name)
                if found and found["spec"].get("holderIdentity") == self._identity:
                    await self._api.update(LEASES, self._manifest(found, holder=None))
        except (KubeError, TimeoutError) as error:
            _log.warning("%s could not be given back, others wait %d s: %s", self, self._seconds, error)

    def __str__(self) -> str:
        return f"Lease {self._namespace}/{self._name}"

    def _left(self) -> float:
        """Seconds for which the Lease is surely ours."""
        if self._confirmed is None:
            return 0.0
        return self._confirmed + self._seconds * GIVE_UP - self._clock()

    async def _try(self) -> bool:
        """Look at the Lease, and take it if it may be taken; whether it is ours."""
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
        # A record that somebody deleted counts as unchanged: its holder may not know yet.
        if found is not None and found["metadata"]["resourceVersion"] != self._version:
            self._seen, self._version = found.get("spec") or {}, found["metadata"]["resourceVersion"]
            # The clock is read after the answer came, hence after the holder's write, hence too late at most.
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
        """Seconds that the holder has by its own account, which may come from another configuration."""
        claimed = spec.get("leaseDurationSeconds")
        if isinstance(claimed, int) and claimed > 0:
            return max(self._seconds, min(claimed, MAX_LEASE_SECONDS))
        return self._seconds

    async def _renew(self) -> None:
        """Renew once, with as many attempts as there is time for."""
        while True:
            left = self._left()
            if left <= 0:
                cause = f": {self.trouble}" if self.trouble else ""
                raise LeaseLost(f"{self} could not be renewed in {self._seconds * GIVE_UP:.0f} s{cause}")
            try:
                async with asyncio.timeout(min(left, self._seconds * CALL)):
                    await self._confirm()
            except (KubeError, TimeoutError) as error:
                self._failed(error)
                await self._sleep(self._seconds * RETRY)
            else:
                self.trouble = ""
                return

    async def _confirm(self) -> None:
        """Write the record anew; where it was written by somebody meanwhile, only if it still names us."""
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
            # Somebody deleted it. Those who have seen our name in it wait as long as if it were there.
            await self._write(None)

    async def _write(self, lease: Object | None) -> None:
        """Write the record with our name. What counts is when it was sent, not when the answer came."""
        sent = self._clock()
        manifest = self._manifest(lease, holder=self._identity)
        send = self._api.update if lease else self._api.create
        self._lease = await send(LEASES, manifest)
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
            # An update that changes nothing gives no new version, by which others see that we live.
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
        """Note a failure; it is logged when it is not the one before."""
        text = str(error) or "no answer in time"
        if text != self.trouble:
            _log.warning("%s: %s", self, text)
        self.trouble = text
