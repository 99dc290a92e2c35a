"""Fake device plugin: it advertises accelerators that do not exist.

Run as ``python -m serval_lab.device_plugin FILE`` inside a node, one process for each resource. There is no
silicon behind any unit: what is real is everything around it, namely the kubelet's device manager, the
scheduler's arithmetic and the pod's admission. A container that gets a unit finds that said in its
environment (``SERVAL_LAB_DEVICE``), beside the cards that it got (``SERVAL_DEVICE_UNITS``).

All containers of a node that get units of one resource have one folder in common, named by
``SERVAL_DEVICE_LOCK_DIR``: who drives a card locks its file there, which no other container can lock then.
Beside it lies a file with the card's fault, while it has one. The folder ends with the node.

FILE is the resource's control file (see `device_control`); changes take effect within a quarter of a
second. The plugin registers again whenever the kubelet has made its socket anew.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from serval_lab import device_api as api
from serval_lab import device_control as control

PLUGINS = Path("/var/lib/kubelet/device-plugins")
LOCKS = Path("/run/serval-lab/device-locks")
"""Folder of the node with a folder of locks for each resource."""
LOCKS_IN_CONTAINER = "/serval/device-locks"
LOCKS_MODE = 0o1777
"""As of /tmp: a container of any user may make a file, and no other user's container can take it away."""
LOCK_MODE = 0o666
LOCK, FAULT = "lock", "unhealthy"
"""Endings of a card's files, as Serval's servers know them."""
LOOK_EVERY = 0.25
REGISTER_LIMIT = 5.0

ENV_DEVICE = "SERVAL_LAB_DEVICE"
ENV_UNITS = "SERVAL_DEVICE_UNITS"
ENV_LOCKS = "SERVAL_DEVICE_LOCK_DIR"
NO_SILICON = "fake: no silicon behind it"


class FakeDevice:
    """Serves the device plugin API for one resource.

    Parameters
    ----------
    folder
        Folder of the control files.
    state
        What its control file says now.
    plugins
        The kubelet's folder of device plugins.
    locks
        Folder of the node with the locks of all resources.
    """

    def __init__(
        self, folder: Path, state: control.DeviceState, plugins: Path = PLUGINS, locks: Path = LOCKS
    ) -> None:
        self._folder = folder
        self._state = state
        self._plugins = plugins
        self._types = api.messages()
        self._changed = threading.Condition()
        self._registered_with: tuple[int, int] | None = None
        self._socket = plugins / f"serval-{control.file_name(state.resource)}.sock"
        self._server: Any = None
        self._failure = ""
        self._locks = locks / control.file_name(state.resource)
        self._locks.mkdir(parents=True, exist_ok=True)
        self._locks.chmod(LOCKS_MODE)  # mkdir's mode is subject to the umask
        self._tell_faults({}, state.faults)
        self._socket.unlink(missing_ok=True)  # an earlier process may have been killed

    def update(self, state: control.DeviceState) -> None:
        """Take over what the control file says now."""
        with self._changed:
            if state != self._state:
                self._tell_faults(self._state.faults, state.faults)
                self._state = state
                self._changed.notify_all()

    def _tell_faults(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Lay the faults where those who drive the cards look."""
        for card in before.keys() - now.keys():
            self._file(card, FAULT).unlink(missing_ok=True)
        for card, fault in now.items():
            self._file(card, FAULT).write_text(fault)

    def _file(self, card: str, ending: str) -> Path:
        return self._locks / f"unit-{card}.{ending}"

    def keep_registered(self) -> None:
        """Register with the kubelet unless this was done since it made its socket."""
        try:
            found = (self._plugins / "kubelet.sock").stat()
        except FileNotFoundError:
            return
        socket = (found.st_ino, found.st_ctime_ns)
        if socket == self._registered_with and self._socket.exists():
            return
        if not self._socket.exists():  # a kubelet that starts empties the folder
            self._serve()
        if self._register():
            self._registered_with = socket

    def _serve(self) -> None:
        if self._server is not None:
            self._server.stop(grace=None).wait(REGISTER_LIMIT)
        types = self._types

        def unary(behaviour: Any, request: str) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                behaviour, request_deserializer=types[request].FromString, response_serializer=_serialize
            )

        handlers = {
            "GetDevicePluginOptions": unary(self._options, "Empty"),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                self._watch, request_deserializer=types["Empty"].FromString, response_serializer=_serialize
            ),
            "Allocate": unary(self._allocate, "AllocateRequest"),
            "PreStartContainer": unary(self._pre_start, "Empty"),
        }
        self._server = grpc.server(ThreadPoolExecutor(8))
        generic = grpc.method_handlers_generic_handler(api.DEVICE_PLUGIN, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_insecure_port(f"unix://{self._socket}")
        self._server.start()

    def _register(self) -> bool:
        request = self._types["RegisterRequest"](
            version=api.VERSION, endpoint=self._socket.name, resource_name=self._state.resource
        )
        with grpc.insecure_channel(f"unix://{self._plugins}/kubelet.sock") as channel:
            register = channel.unary_unary(
                f"/{api.REGISTRATION}/Register",
                request_serializer=_serialize,
                response_deserializer=self._types["Empty"].FromString,
            )
            try:
                register(request, timeout=REGISTER_LIMIT)
            except grpc.RpcError as error:
                self._tell_failure(str(error.code()))
                return False
        self._failure = ""
        _say(f"{self._state.resource}: registered with {self._state.units} units ({NO_SILICON})")
        return True

    def _tell_failure(self, failure: str) -> None:
        """Log why the kubelet did not take the registration, once: a starting kubelet refuses for a while."""
        if failure != self._failure:
            _say(f"{self._state.resource}: the kubelet does not take the registration yet: {failure}")
            self._failure = failure

    def _options(self, _request: Any, _context: Any) -> Any:
        return self._types["DevicePluginOptions"]()

    def _pre_start(self, _request: Any, _context: Any) -> Any:
        return self._types["PreStartContainerResponse"]()

    def _watch(self, _request: Any, context: Any) -> Iterator[Any]:
        told: control.DeviceState | None = None
        while context.is_active():
            with self._changed:
                if self._state == told:
                    self._changed.wait(LOOK_EVERY)
                state = self._state
            if state != told:
                device, healthy = self._types["Device"], set(state.healthy)
                devices = [
                    device(ID=unit, health=api.HEALTHY if unit in healthy else api.UNHEALTHY)
                    for unit in state.ids
                ]
                yield self._types["ListAndWatchResponse"](devices=devices)
                told = state
                control.acknowledge(self._folder, state)

    def _allocate(self, request: Any, context: Any) -> Any:
        state = self._state
        if state.refuse:
            _say(f"{state.resource}: an allocation is refused, as told")
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, state.refuse)
        answers = [self._answer(state, one.devices_ids) for one in request.container_requests]
        return self._types["AllocateResponse"](container_responses=answers)

    def _answer(self, state: control.DeviceState, units: Sequence[str]) -> Any:
        """Return what one container gets: the cards behind its units in its environment, and their locks."""
        cards = state.cards_of(units)
        for card in cards:
            # Made here, so that containers of all users can open it and none can put another in its place.
            self._file(card, LOCK).touch()
            self._file(card, LOCK).chmod(LOCK_MODE)
        _say(f"{state.resource}: {','.join(units)} allocated, on {','.join(cards)}")
        entry, mount = self._types["Entry"], self._types["Mount"]
        values = {
            ENV_DEVICE: f"{state.resource} ({NO_SILICON})",
            ENV_UNITS: ",".join(cards),
            ENV_LOCKS: LOCKS_IN_CONTAINER,
        }
        return self._types["ContainerAllocateResponse"](
            envs=[entry(key=key, value=value) for key, value in values.items()],
            mounts=[mount(container_path=LOCKS_IN_CONTAINER, host_path=str(self._locks))],
        )


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main(file: Path) -> None:
    """Serve the resource of a control file, until killed."""
    device: FakeDevice | None = None
    while True:
        state = control.read(file)
        if state is not None:
            device = device or FakeDevice(file.parent, state)
            device.update(state)
            device.keep_registered()
        time.sleep(LOOK_EVERY)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
