"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler on the machine itself."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import urllib3

from serval_lab.context import Context
from serval_lab.kube import KubeClient
from serval_lab.pki import Authority, KeyPair, apiserver_sans, write_kubeconfig
from serval_lab.state import HPA_PERIOD
from serval_lab.wait import wait_for

APISERVER_LIMIT = 90.0
"""Seconds. On an idle machine it takes 3; image builds beside it take a multiple."""
CONTROLLERS_LIMIT = 60.0
LOOPBACK = "127.0.0.1"
SERVICE_RANGE = "10.96.0.0/16"
"""ClusterIPs of a control plane on loopback. Nobody routes them."""

ETCD = "etcd"
APISERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
        {"level": "Metadata"},
    ],
}


METRICS_SERVER = "metrics-server"
ADAPTER = "prometheus-adapter"
ADDED_APIS = (METRICS_SERVER, ADAPTER)
FRONT_PROXY = "front-proxy"
"""Authority and user of requests that the API server passes on to the servers of added APIs."""

_HPA_WAITS = {"downscale-stabilization": 300, "initial-readiness-delay": 30, "cpu-initialization-period": 300}
"""Seconds that the controller of HorizontalPodAutoscalers waits by default, beside its period."""


def context_name(lab: str) -> str:
    """Return the name of a lab's kubeconfig context; guards of tests look for the prefix."""
    return f"serval-lab-{lab}"


def added_api_host(server: str) -> str:
    """Return the name that the API server expects of the server of an added API."""
    return f"{server}.kube-system.svc"


def admin_pair(context: Context) -> KeyPair:
    """Return the administrator's certificate."""
    return KeyPair(context.folder.pki / "admin.crt", context.folder.pki / "admin.key")


def client(context: Context) -> KubeClient:
    """Return a client of the lab's API server, as administrator."""
    return KubeClient(context.apiserver, context.folder.pki / "ca.crt", admin_pair(context))


def make_pki(context: Context) -> Authority:
    """Make the authority, the control plane's certificates and its kubeconfigs."""
    authority = Authority(context.folder.pki)
    addresses = [context.host]
    if context.state.index is not None:
        addresses.append(str(context.plan.apiserver_service))
    authority.issue("apiserver", "kube-apiserver", sans=apiserver_sans(*addresses))
    authority.issue("apiserver-kubelet", "apiserver-kubelet", organization="system:masters")
    authority.signing_key("sa")
    Authority(context.folder.pki, f"{FRONT_PROXY}-ca").issue(f"{FRONT_PROXY}-client", f"{FRONT_PROXY}-client")
    admin = authority.issue("admin", "admin", organization="system:masters")
    components = (CONTROLLER_MANAGER, SCHEDULER, "kube-proxy")
    for name in ADDED_APIS:
        authority.issue(name, name, sans=[added_api_host(name), "localhost", LOOPBACK])
    pairs = {
        name: authority.issue(name, f"system:{name}", sans=["localhost", LOOPBACK]) for name in components
    }
    for name, pair in pairs.items():
        kubeconfig(context, context.folder.pki / f"{name}.conf", pair)
    kubeconfig(context, context.folder.kubeconfig, admin)
    return authority


def kubeconfig(context: Context, path: Path, pair: KeyPair) -> Path:
    """Write a kubeconfig of this lab for one user."""
    return write_kubeconfig(
        path,
        context=context_name(context.name),
        server=context.apiserver,
        ca=context.folder.pki / "ca.crt",
        client=pair,
    )


def etcd_command(context: Context) -> list[str | Path]:
    """Return etcd's command line. Its data is disposable: nothing is flushed to the disk."""
    peer = f"http://{LOOPBACK}:{context.state.ports['etcd-peer']}"
    return [
        context.binaries.path("etcd"),
        "--name=lab",
        f"--data-dir={etcd_data(context)}",
        f"--listen-client-urls={etcd_url(context)}",
        f"--advertise-client-urls={etcd_url(context)}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=lab={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def etcd_data(context: Context) -> Path:
    """Return the folder of etcd's data."""
    return context.folder.path / "etcd"


def etcd_url(context: Context) -> str:
    """Return the URL of etcd's clients, on loopback."""
    return f"http://{LOOPBACK}:{context.state.ports['etcd']}"


def apiserver_command(context: Context) -> list[str | Path]:
    """Return kube-apiserver's command line."""
    pki, loopback = context.folder.pki, context.state.index is None
    policy = context.folder.path / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY))
    command: list[str | Path] = [
        context.binaries.path("kube-apiserver"),
        f"--etcd-servers={etcd_url(context)}",
        f"--bind-address={context.host}",
        f"--secure-port={context.state.ports['apiserver']}",
        f"--service-cluster-ip-range={SERVICE_RANGE if loopback else context.plan.services}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",  # node names resolve nowhere
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={audit_log(context)}",
        "--audit-log-maxsize=500",  # MB; then one older file is kept beside it
        "--audit-log-maxbackup=1",
        f"--requestheader-client-ca-file={pki / FRONT_PROXY}-ca.crt",
        f"--requestheader-allowed-names={FRONT_PROXY}-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / FRONT_PROXY}-client.crt",
        f"--proxy-client-key-file={pki / FRONT_PROXY}-client.key",
    ]
    if loopback:
        # A loopback address cannot be an endpoint of kubernetes.default, so none is published.
        command.append("--endpoint-reconciler-type=none")
    else:
        command.append(f"--advertise-address={context.host}")
    if not context.state.options.controllers:
        # Nobody makes the ServiceAccount "default", and its admission would refuse every pod.
        command.append("--disable-admission-plugins=ServiceAccount")
    return command


def audit_log(context: Context) -> Path:
    """Return the path of the audit log: one JSON event per line, level Metadata."""
    return context.folder.logs / "audit.log"


def controllers_command(context: Context) -> list[str | Path]:
    """Return kube-controller-manager's command line."""
    pki, period = context.folder.pki, context.state.options.hpa_period
    waits = {name: seconds * period / HPA_PERIOD for name, seconds in _HPA_WAITS.items()}
    return [
        *_leaderless(context, CONTROLLER_MANAGER),
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--node-monitor-grace-period={context.state.options.node_grace:g}s",
        *(
            f"--horizontal-pod-autoscaler-{name}={seconds:g}s"
            for name, seconds in {"sync-period": period, **waits}.items()
        ),
    ]


def scheduler_command(context: Context) -> list[str | Path]:
    """Return kube-scheduler's command line."""
    return _leaderless(context, SCHEDULER)


def _leaderless(context: Context, name: str) -> list[str | Path]:
    conf, pki = context.folder.pki / f"{name}.conf", context.folder.pki
    command: list[str | Path] = [
        context.binaries.path(name),
        f"--kubeconfig={conf}",
        f"--authentication-kubeconfig={conf}",
        f"--authorization-kubeconfig={conf}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={context.state.ports[name]}",
        f"--tls-cert-file={pki / f'{name}.crt'}",
        f"--tls-private-key-file={pki / f'{name}.key'}",
        "--leader-elect=false",
    ]
    # By default a controller's start alone is throttled for 4 s.
    qps = 1000 if context.state.options.fast else 100
    return [*command, f"--kube-api-qps={qps}", f"--kube-api-burst={2 * qps}"]


def start_etcd(context: Context) -> None:
    """Start etcd. Who needs it waits for it."""
    context.start(ETCD, etcd_command(context))


def start_apiserver(context: Context) -> None:
    """Start kube-apiserver and wait until it is ready."""
    context.start(APISERVER, apiserver_command(context))
    api = client(context)
    wait_for(
        "kube-apiserver's readiness",
        api.ready,
        APISERVER_LIMIT,
        log=context.log(APISERVER),
        alive=lambda: context.alive(APISERVER)() and context.alive(ETCD)(),
    )
    api.close()


def wait_controllers(context: Context) -> None:
    """Wait until those that were started say that they are healthy."""
    for name in (CONTROLLER_MANAGER, SCHEDULER):
        if context.pid_file(name).exists():
            wait_for(
                f"{name}'s health",
                partial(healthy, context, name),
                CONTROLLERS_LIMIT,
                log=context.log(name),
                alive=context.alive(name),
            )
    if context.state.options.controllers:
        api = client(context)
        wait_for(
            "the ServiceAccount default of namespace default",
            lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default"),
            CONTROLLERS_LIMIT,
            log=context.log(CONTROLLER_MANAGER),
            alive=context.alive(CONTROLLER_MANAGER),
        )
        api.close()


def healthy(context: Context, component: str) -> bool:
    """Whether a component that serves /healthz on loopback says ok."""
    url = f"https://{LOOPBACK}:{context.state.ports[component]}/healthz"
    pool = urllib3.PoolManager(ca_certs=str(context.folder.pki / "ca.crt"), retries=False, timeout=2.0)
    try:
        return pool.request("GET", url).status == 200
    except (urllib3.exceptions.HTTPError, OSError):
        return False
    finally:
        pool.clear()
