"""How this process runs: read once, from environment variables, by the entry point.

What models are served with (runtimes, profiles) is the configuration file, see `config.py`. Here is what an
operator of the operator may want to turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serval_operator.constants import MAX_LEASE_SECONDS
from serval_operator.errors import ConfigurationError

PREFIX = "SERVAL_"
KUBECONFIG = "KUBECONFIG"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("json", "text")

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the process. Each field is the variable ``SERVAL_<FIELD>``; unset means the default.

    Times are in seconds.
    """

    config_file: Path = Path("/etc/serval/config.yaml")
    """Runtimes and profiles. The chart mounts its ConfigMap there."""

    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to serve, separated by commas; none means all. Roles instead of ClusterRoles then do."""

    kinds: tuple[str, ...] = ()
    """Kinds to serve, such as ``ModelDeployment``, separated by commas; none means all."""

    workers: int = 12
    """ModelDeployments reconciled at the same time; a third of the workers take none that is new. A reconcile
    waits for the API server most of its time, so this bounds the load on it, not the CPU used here."""

    resync_seconds: float = 300.0
    """Every ModelDeployment is reconciled at least this often. Nothing should depend on it: it bounds how
    long a mistake can last. Ten thousand of them are 33 reconciles a second, without requests."""

    relist_seconds: float = 3600.0
    """All watched objects are listed about this often. Nothing is known that it would repair: a kind whose
    watch had a gap is listed at once. It bounds how long a mistake can last, and reads everything for it."""

    request_timeout_seconds: float = 30.0
    """Limit of one request to the API server. Its own limit is 60; a slower answer helps nobody here."""

    requests_in_flight: int = 48
    """Requests sent at the same time. With 12 workers and 4 children each there are hardly ever more, and
    an API server gives all service accounts together some 250 places."""

    watch_timeout_seconds: int = 3600
    """Length of one watch request; it is renewed where it ended. Renewals find nothing: a watch that died is
    noticed by the bookmarks that it lacks, in 130 seconds. But only a renewal asks whether we still may."""

    watch_backoffs: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 5.0)
    """Pauses between attempts to watch while the API server fails; the last one is repeated. They are short,
    so that a restarted API server is found again at once."""

    hide_foreign_holders: bool = False
    """Who holds devices in other namespaces is not named to the users of this one, only counted."""

    lease_name: str = ""
    """Name of the Lease without which no operator works; the chart always sets it. Empty for development
    outside a cluster: then nothing prevents two operators from working against each other."""

    lease_namespace: str = ""
    """Namespace of the Lease; the operators' own."""

    lease_seconds: int = 15
    """How long the Lease of an operator that died stands. It is renewed five times in that time. An operator
    that could not renew it for two thirds of it writes nothing until it can, and ends if another has it."""

    start_seconds: float = 120.0
    """Limit of the first listing. Covers an API server, roles or a CRD that come a little later."""

    stop_grace_seconds: float = 20.0
    """How long reconciles in flight may take after SIGTERM. The rest of the end takes up to 8 seconds, and a
    pod is given 30 by default."""

    log_level: str = "info"
    """Least level that is logged: debug, info, warning or error."""

    log_format: str = "json"
    """json, one object a line, for collectors; text for people."""

    http_host: str = ""
    """Address that probes and metrics listen on. Empty means all: the kubelet asks from the node."""

    http_port: int = 8080
    """Port of probes and metrics; 0 lets the system choose one."""

    condition_metrics: bool = False
    """Whether `serval_condition` has a series for each condition of each object, some ten for each. It lets
    an alert name the model; with ten thousand ModelDeployments it is a page of 10 MB."""

    kubeconfig: str = ""
    """Path of a kubeconfig, from ``KUBECONFIG``. Empty means the pod's service account where there is one,
    else the default file of the user."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises
        ------
        ConfigurationError
            A variable has a value that cannot be; the text names it and says what must hold.
        """
        default = cls()
        read = _Reader(env)
        settings = cls(
            config_file=read("CONFIG_FILE", default.config_file, _path),
            watch_namespaces=read("WATCH_NAMESPACES", default.watch_namespaces, _namespaces),
            kinds=read("KINDS", default.kinds, _kinds),
            workers=read("WORKERS", default.workers, _whole(1, 256)),
            resync_seconds=read("RESYNC_SECONDS", default.resync_seconds, _seconds(10, 86_400)),
            relist_seconds=read("RELIST_SECONDS", default.relist_seconds, _seconds(10, 86_400)),
            request_timeout_seconds=read(
                "REQUEST_TIMEOUT_SECONDS", default.request_timeout_seconds, _seconds(1, 60)
            ),
            requests_in_flight=read("REQUESTS_IN_FLIGHT", default.requests_in_flight, _whole(1, 1024)),
            watch_timeout_seconds=read(
                "WATCH_TIMEOUT_SECONDS", default.watch_timeout_seconds, _whole(30, 86_400)
            ),
            watch_backoffs=read("WATCH_BACKOFFS", default.watch_backoffs, _backoffs),
            hide_foreign_holders=read("HIDE_FOREIGN_HOLDERS", default.hide_foreign_holders, _yes_or_no),
            lease_name=read("LEASE_NAME", default.lease_name, _subdomain),
            lease_namespace=read("LEASE_NAMESPACE", default.lease_namespace, _namespace),
            lease_seconds=read("LEASE_SECONDS", default.lease_seconds, _whole(5, MAX_LEASE_SECONDS)),
            start_seconds=read("START_SECONDS", default.start_seconds, _seconds(1, 3600)),
            stop_grace_seconds=read("STOP_GRACE_SECONDS", default.stop_grace_seconds, _seconds(0, 3600)),
            log_level=read("LOG_LEVEL", default.log_level, _choice(LOG_LEVELS)),
            log_format=read("LOG_FORMAT", default.log_format, _choice(LOG_FORMATS)),
            http_host=read("HTTP_HOST", default.http_host, str),
            http_port=read("HTTP_PORT", default.http_port, _whole(0, 65_535)),
            condition_metrics=read("CONDITION_METRICS", default.condition_metrics, _yes_or_no),
            kubeconfig=env.get(KUBECONFIG, ""),
        )
        if settings.lease_name and not settings.lease_namespace:
            raise ConfigurationError(f"{PREFIX}LEASE_NAMESPACE: must be set where {PREFIX}LEASE_NAME is")
        return settings


class _Reader:
    """Reads one variable after another, and names the one that is wrong."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def __call__(self, name: str, default: _T, parse: Callable[[str], _T]) -> _T:
        text = self._env.get(PREFIX + name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            raise ConfigurationError(f"{PREFIX}{name}: {error}, but is {text!r}") from None


def _path(text: str) -> Path:
    return Path(text)


def _namespaces(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not all(_NAMESPACE.fullmatch(name) for name in names):
        raise ValueError("must be names of namespaces, separated by commas")
    return names


def _kinds(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        raise ValueError("must be a name of lower-case letters, digits and dashes")
    return text


def _subdomain(text: str) -> str:
    if not _SUBDOMAIN.fullmatch(text):
        raise ValueError("must be a name of lower-case letters, digits, dashes and dots")
    return text


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ValueError(f"must be seconds from {least:g} to {most:g}")
        return value

    return parse


def _backoffs(text: str) -> tuple[float, ...]:
    parse = _seconds(0, 60)
    try:
        return tuple(parse(one.strip()) for one in text.split(","))
    except ValueError:
        raise ValueError("must be seconds from 0 to 60, separated by commas") from None


def _choice(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text.lower()

    return parse
