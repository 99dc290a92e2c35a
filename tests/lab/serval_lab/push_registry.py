"""A second registry of the lab, to push to: with accounts, and repositories that belong to namespaces.

It speaks TLS; another one beside it speaks plain HTTP. Each is started on demand, by `Lab.push_registry`, and
ends with the lab, as do its data. Pods, nodes and the machine reach it at the same HOST:PORT. Each account
may push, pull and delete what lies below its own prefix, and nothing else: distribution asks a token server,
which is `serval_lab.registry_tokens`.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import urllib3

from serval_lab import registry_tokens as tokens
from serval_lab.addresses import PUSH_REGISTRY_PLAIN_PORT, PUSH_REGISTRY_PORT
from serval_lab.context import PACKAGE_ROOT, Context
from serval_lab.errors import LabError
from serval_lab.pki import Authority, KeyPair
from serval_lab.procs import kill_all
from serval_lab.services import hosts_folder
from serval_lab.wait import wait_for

REGISTRY = "push-registry"
PLAIN = "push-registry-plain"
START_LIMIT = 30.0
TOKEN_LIMIT = 5.0
LIFETIME = 300
"""Seconds for which a token is good."""


@dataclass(frozen=True)
class Account:
    """Name and password of a client of the push registry.

    Attributes
    ----------
    registry
        HOST:PORT.
    name, password
        For HTTP Basic at the token server.
    """

    registry: str
    name: str
    password: str

    @property
    def docker_config(self) -> str:
        """Content of a Secret of type ``kubernetes.io/dockerconfigjson``, under ``.dockerconfigjson``."""
        auth = base64.b64encode(f"{self.name}:{self.password}".encode()).decode()
        entry = {"username": self.name, "password": self.password, "auth": auth}
        return json.dumps({"auths": {self.registry: entry}})

    def secret(self, name: str, namespace: str) -> dict[str, Any]:
        """Return the manifest of a Secret with which this account pushes and pulls."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": self.docker_config},
        }


class PushRegistry:
    """The push registry of a running lab with nodes.

    Parameters
    ----------
    context
        The lab.
    tls
        Whether it speaks TLS. The two are separate registries.
    """

    def __init__(self, context: Context, *, tls: bool = True) -> None:
        self._context = context
        self._tls = tls
        self._name = REGISTRY if tls else PLAIN
        self._tokens = f"{self._name}-tokens"
        self._folder = context.folder.path / self._name
        self._port = PUSH_REGISTRY_PORT if tls else PUSH_REGISTRY_PLAIN_PORT
        self.host = f"{context.host}:{self._port}"

    @property
    def url(self) -> str:
        """Base URL."""
        return f"{self._scheme}://{self.host}"

    @property
    def _scheme(self) -> str:
        return "https" if self._tls else "http"

    @property
    def ca(self) -> Path:
        """Certificate of the authority that its own certificate is from."""
        return self._folder / "pki" / "ca.crt"

    @property
    def realm(self) -> str:
        """URL of the token server."""
        return f"{self._scheme}://{self._context.host}:{self._port + 1}/token"

    @property
    def alive(self) -> bool:
        """Whether it runs, and its token server too."""
        return all(self._context.process(name) for name in (self._name, self._tokens))

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers; what was pushed and the accounts are kept.

        Raises
        ------
        LabError
            If it does not answer, with the end of its log.
        """
        if not self._config.is_file():
            self._prepare()
        context = self._context
        if not context.process(self._tokens):
            context.start(self._tokens, self._tokens_command(), {"PYTHONPATH": str(PACKAGE_ROOT)})
        if not context.process(self._name):
            # Its traces would otherwise be sent to a collector on loopback.
            env = {"OTEL_TRACES_EXPORTER": "none"}
            context.start(self._name, [context.binaries.path("registry"), "serve", self._config], env)
        for name, url in ((self._tokens, self.realm), (self._name, f"{self.url}/v2/")):
            wait_for(
                f"the {name}",
                partial(self._refuses_strangers, url),
                START_LIMIT,
                log=context.log(name),
                alive=context.alive(name),
            )

    def kill(self) -> None:
        """Kill the registry; its token server goes on. Nobody starts it until `start`."""
        process = self._context.process(self._name)
        if process and kill_all([process]):
            raise LabError(f"{self._name} (process {process.pid}) does not end")

    def account(self, name: str, *, push: Sequence[str] = (), pull: Sequence[str] = ()) -> Account:
        """Make an account, or give one another password, and return it; what it may do holds from now on.

        Parameters
        ----------
        name
            Of the account: usually a namespace.
        push, pull
            Prefixes of repositories, each with "/" at its end, or whole names. Pushing includes pulling and
            deleting. By default an account pushes below its own name.
        """
        said = self._said()
        account = Account(self.host, name, secrets.token_urlsafe(16))
        own = list(push) if push or pull else [f"{name}/"]
        said["accounts"][name] = {
            "sha256": tokens.hashed(account.password),
            "push": own,
            "pull": [*own, *pull],
        }
        self._tell(said)
        return account

    def token(self, account: Account, repository: str, actions: str = "pull,push") -> str:
        """Return a token for a repository, with as much of the asked actions as the account may do.

        Raises
        ------
        LabError
            If the account is not let in.
        """
        fields = {"service": tokens.SERVICE, "scope": f"repository:{repository}:{actions}"}
        login = urllib3.make_headers(basic_auth=f"{account.name}:{account.password}")
        with urllib3.PoolManager(ca_certs=str(self.ca)) as client:
            answer = client.request(
                "GET", self.realm, fields=fields, headers=login, timeout=TOKEN_LIMIT, retries=False
            )
        if answer.status != 200:
            raise LabError(f"{self._tokens}: {answer.status} for {account.name}")
        return str(answer.json()["token"])

    def close_account(self, name: str) -> None:
        """Let an account in no more; tokens that it has are good until they end."""
        said = self._said()
        said["accounts"].pop(name, None)
        self._tell(said)

    def set_lifetime(self, seconds: int = LIFETIME) -> None:
        """Let tokens that are issued from now on be refused after some seconds; 0: at once."""
        self._tell({**self._said(), "lifetime": seconds})

    # --- its files

    def _prepare(self) -> None:
        """Write certificates, configurations, and what containerd on the nodes needs to know."""
        pki = self._folder / "pki"
        pki.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        host = self._context.host
        pair = Authority(pki).issue(self._name, self._name, sans=[host])
        self._tell({"lifetime": LIFETIME, "accounts": {}})
        config = tokens.Config(
            host, self._port + 1, str(pair.cert), str(pair.key), str(self._accounts), self._tls
        )
        (self._folder / "tokens.json").write_text(json.dumps(asdict(config)))
        hosts = hosts_folder(self._context) / self.host
        hosts.mkdir(parents=True, exist_ok=True)
        (hosts / "hosts.toml").write_text(
            f'server = "{self.url}"\n[host."{self.url}"]\n  capabilities = ["pull", "resolve"]\n'
            + (f'  ca = "{self.ca}"\n' if self._tls else "")
        )
        document = registry_config(self.host, self.realm, self._folder, pair, tls=self._tls)
        self._config.write_text(json.dumps(document))  # the last: where it is, all is

    def _tokens_command(self) -> list[str | Path]:
        return [self._context.python, "-m", "serval_lab.registry_tokens", self._folder / "tokens.json"]

    @property
    def _config(self) -> Path:
        return self._folder / "registry.json"

    @property
    def _accounts(self) -> Path:
        return self._folder / "accounts.json"

    def _said(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._accounts.read_text())
        return said

    def _tell(self, said: dict[str, Any]) -> None:
        scratch = self._accounts.with_suffix(".new")
        scratch.write_text(json.dumps(said))
        scratch.replace(self._accounts)

    def _refuses_strangers(self, url: str) -> bool:
        """Whether a server answers as it should without an account."""
        try:
            with urllib3.PoolManager(ca_certs=str(self.ca)) as client:
                return client.request("GET", url, timeout=TOKEN_LIMIT, retries=False).status == 401
        except (urllib3.exceptions.HTTPError, OSError):
            return False


def registry_config(host: str, realm: str, folder: Path, pair: KeyPair, *, tls: bool) -> dict[str, Any]:
    """Return distribution's configuration: who may do what is said by the tokens of the realm.

    Parameters
    ----------
    host
        HOST:PORT to listen on.
    realm
        URL of the token server.
    folder
        Where its data go.
    pair
        Its own certificate, which also signs tokens.
    tls
        Whether it listens with TLS.
    """
    files = {"certificate": str(pair.cert), "key": str(pair.key)}
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": host, **({"tls": files} if tls else {})},
        "auth": {
            "token": {
                "realm": realm,
                "service": tokens.SERVICE,
                "issuer": tokens.ISSUER,
                "rootcertbundle": str(pair.cert),
            }
        },
    }
