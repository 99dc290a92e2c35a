"""The bridge, the links of the nodes and the routes to their pods. Needs root."""

from __future__ import annotations

import json
import shlex
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from serval_lab.addresses import BRIDGE_NAME, LINK_NAME, AddressPlan
from serval_lab.errors import LabError
from serval_lab.shell import run

_BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def _ip_json(*arguments: str) -> list[dict[str, Any]]:
    text = run(["ip", "-j", *arguments]).stdout.strip()
    found: list[dict[str, Any]] = json.loads(text) if text else []
    return found


def networks_in_use() -> list[IPv4Network]:
    """Return the subnets that the machine has routes to, but for its default route."""
    routes = (route["dst"] for route in _ip_json("-4", "route", "show", "table", "main"))
    return [IPv4Network(dst, strict=False) for dst in routes if dst != "default"]


def links() -> dict[str, str]:
    """Return the labs' bridges and links on this machine, each with its alias (a lab's state folder)."""
    found = {link["ifname"]: str(link.get("ifalias", "")) for link in _ip_json("link", "show")}
    return {name: alias for name, alias in found.items() if _is_ours(name)}


def _is_ours(name: str) -> bool:
    return bool(BRIDGE_NAME.fullmatch(name) or LINK_NAME.fullmatch(name))


def make_bridge(plan: AddressPlan, owner: Path) -> bool:
    """Make a lab's bridge; return False if there is one of that name.

    The kernel decides who gets an index: the second of two who want it finds that the bridge exists.

    Parameters
    ----------
    plan
        Address plan of the lab.
    owner
        State folder of the lab, noted as the bridge's alias.

    Raises
    ------
    LabError
        If the kernel refuses for another reason.
    """
    # One batch, so that no bridge is without its owner's name for longer than a moment.
    lines = (
        f"link add {plan.bridge} type bridge",
        f"link set dev {plan.bridge} alias {owner}",
        f"addr add {plan.host}/{plan.nodes.prefixlen} dev {plan.bridge}",
        f"link set {plan.bridge} up",
    )
    made = run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n", check=False)
    if made.returncode == 0:
        _let_bridge_pass(plan, owner)
        return True
    if "exists" in made.stderr:
        return False
    raise LabError(f"cannot make the bridge {plan.bridge}: {made.stderr.strip()}")


def _let_bridge_pass(plan: AddressPlan, owner: Path) -> None:
    """Let the nodes talk to each other where the machine's firewall sees bridged traffic.

    Docker, for one, sets the policy of FORWARD to DROP and has bridged traffic pass through it.
    """
    if _BRIDGE_FILTER.exists() and _BRIDGE_FILTER.read_text().strip() == "1":
        run(["iptables", "-w", "10", "-I", *_rule(plan.bridge, str(owner))])


def _rule(bridge: str, owner: str) -> list[str]:
    comment = f"serval-lab:{owner}"[:255]
    return ["FORWARD", "-i", bridge, "-o", bridge, "-m", "comment", "--comment", comment, "-j", "ACCEPT"]


def rules() -> list[str]:
    """Return the labs' firewall rules, as ``iptables -S`` prints them."""
    listed = run(["iptables", "-w", "10", "-S"], check=False).stdout.splitlines()
    return [line for line in listed if "serval-lab:" in line]


def routes() -> list[str]:
    """Return the machine's routes through bridges of labs."""
    return [
        f"{route['dst']} via {route.get('gateway', 'link')} dev {route['dev']}"
        for route in _ip_json("-4", "route", "show", "table", "main")
        if _is_ours(str(route.get("dev", "")))
    ]


def connect(plan: AddressPlan, position: int, pid: int) -> None:
    """Give the network namespace of process `pid` its eth0 and route its pods.

    Parameters
    ----------
    plan
        Address plan of the lab.
    position
        Position of the node.
    pid
        A process in the node's network namespace.
    """
    node = plan.node(position)
    disconnect(plan, position)
    run(["ip", "link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
    run(["ip", "link", "set", node.link, "master", plan.bridge, "up"])
    run(["ip", "route", "replace", str(node.pods), "via", str(node.address), "dev", plan.bridge])


def disconnect(plan: AddressPlan, position: int) -> None:
    """Take a node's link and the route to its pods away; nothing if they are gone."""
    node = plan.node(position)
    run(["ip", "route", "del", str(node.pods)], check=False)
    run(["ip", "link", "del", node.link], check=False)


def cut(plan: AddressPlan, position: int) -> None:
    """Take a node's link down, as if its cable were pulled; nothing on the node itself changes."""
    run(["ip", "link", "set", plan.node(position).link, "down"])


def mend(plan: AddressPlan, position: int) -> None:
    """Take a node's link up again."""
    run(["ip", "link", "set", plan.node(position).link, "up"])


def is_cut(plan: AddressPlan, position: int) -> bool:
    """Whether a node has a link that was taken down."""
    name = plan.node(position).link
    found = [link for link in _ip_json("link", "show") if link["ifname"] == name]
    return bool(found) and "UP" not in found[0]["flags"]


def route_services(plan: AddressPlan, position: int) -> None:
    """Route ClusterIPs from the machine through the node at `position`: its kube-proxy answers them."""
    gateway = str(plan.node(position).address)
    run(["ip", "route", "replace", str(plan.services), "via", gateway, "dev", plan.bridge])


def remove(index: int) -> None:
    """Take everything of one index away: links, routes (they go with the bridge), rules."""
    plan = AddressPlan(index)
    for name in links():
        if name.startswith(f"sv{index}-"):
            run(["ip", "link", "del", name], check=False)
    run(["ip", "link", "del", plan.bridge], check=False)
    for line in rules():
        words = shlex.split(line)
        if words[:1] == ["-A"] and plan.bridge in words:
            run(["iptables", "-w", "10", "-D", *words[1:]], check=False)
