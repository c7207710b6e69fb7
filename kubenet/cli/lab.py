"""``kubenet lab``: clusters of network namespaces on this machine."""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from kubenet.cli.output import OUTPUT, print_json, print_table
from kubenet.errors import InvalidInput

if TYPE_CHECKING:  # a command imports what it needs inside itself
    from labs.labfile import PlannedLab
    from labs.topology import LabSpec


def complete_lab(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's signature
    """Return the labs of this machine whose name begins so."""
    from labs import ledger

    return [name for name in ledger.names() if name.startswith(incomplete)]


NAME = click.option(
    "-n",
    "--name",
    "name",
    envvar="KUBENET_LAB",
    shell_complete=complete_lab,
    help="The lab; needed only when several run. [env: KUBENET_LAB]",
)


@click.group()
def lab() -> None:
    """Clusters of network namespaces on this machine.

    A lab is a real cluster: an API server, controllers, a scheduler, and on every node a node agent, a CNI
    plugin, a service proxy and a DNS server. The machine's own links, rules and settings are never touched.
    """


@lab.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-n", "--name", envvar="KUBENET_LAB", help="A name for the lab.  [default: the file's, or demo]"
)
@click.option("--nodes", type=int, help="How many nodes.  [default: the file's, or 3]")
@click.option(
    "--balance",
    type=click.Choice(["random", "round-robin"]),
    help="How Services without an annotation choose a backend.  [default: the file's, or random]",
)
@click.option("--proxy-mode", type=click.Choice(["iptables", "nftables"]), help="How the proxies work.")
@click.option("--wiring", type=click.Choice(["routed", "bridge"]), help="How pods are wired.")
@click.option(
    "--print-commands",
    is_flag=True,
    help="Boot nothing: print the shell script that builds the network by hand.",
)
@click.option("--pods", default=2, show_default=True, help="Pods on each node of that script.")
def up(
    file: Path | None,
    name: str | None,
    nodes: int | None,
    balance: str | None,
    proxy_mode: str | None,
    wiring: str | None,
    print_commands: bool,
    pods: int,
) -> None:
    """Boot a lab; it runs in the background until 'kubenet lab down'.

    FILE describes a lab in YAML (docs/lab-file.md): its networks, its wire, its objects. Options win over it.
    """
    from labs import control
    from labs.topology import LabSpec

    began = time.monotonic()
    planned = _read_lab(file) if file else None
    given = {"name": name, "nodes": nodes, "balance": balance, "proxy_mode": proxy_mode, "wiring": wiring}
    spec = replace(
        planned.spec if planned else LabSpec("demo"),
        **{key: value for key, value in given.items() if value is not None},  # type: ignore[arg-type]  # each has the type of its field
    )
    if print_commands:
        _print_commands(spec, pods)
        return
    if planned:
        _check_wire(planned, spec)
    server = control.up(spec)
    try:
        if planned:
            _furnish(planned, spec)
    except BaseException:
        control.down(spec.name)
        raise
    print(
        f"lab {spec.name!r}: {spec.nodes} nodes ready in {time.monotonic() - began:.2f} s,"
        f" API server {server}"
    )
    print(f"Try:  kubenet lab status    kubectl --server {server} get nodes", file=sys.stderr)


def _read_lab(file: Path) -> "PlannedLab":
    from labs.labfile import read_lab

    return read_lab(file.read_text(), str(file))


def _print_commands(spec: "LabSpec", pods: int) -> None:
    from labs.by_hand import script
    from labs.topology import checked

    print(script(checked(spec), pods), end="")


def _check_wire(planned: "PlannedLab", spec: "LabSpec") -> None:
    from labs.impairments import checked
    from labs.topology import topology

    checked(planned.wire, [node.name for node in topology(spec).nodes])


def _furnish(planned: "PlannedLab", spec: "LabSpec") -> None:
    """Give a lab that is up its wire and its objects."""
    from labs import control, wire
    from labs.apply import apply_manifests

    wire.impair(spec.name, planned.wire)
    for manifest, outcome in apply_manifests(control.client_of(spec.name), planned.objects):
        print(f"{manifest} {outcome}")


@lab.command()
@NAME
@click.option("--from", "source", default="*", help="The node from which; * is any.")
@click.option("--to", default="*", help="The node to which; * is any.")
@click.option("--loss", type=float, default=0.0, help="Percent of the frames, in this direction.")
@click.option("--partition", is_flag=True, help="Nothing passes, in either direction.")
@click.option("--mtu", type=int, default=0, help="The largest frame that the node --to gets.")
@click.option("--rate", default="", help="What the node --to gets at most: 10mbit.")
@click.option("--clear", is_flag=True, help="Make the wire good again.")
def impair(
    name: str | None,
    source: str,
    to: str,
    loss: float,
    partition: bool,
    mtu: int,
    rate: str,
    clear: bool,
) -> None:
    """Make the wire worse, in addition to what is wrong with it already; without options, show that.

    kubenet lab impair --from node-1 --to node-2 --loss 20
    """
    from labs import control, wire
    from labs.impairments import Impairment

    lab = name or control.only_lab()
    wanted = Impairment(source, to, loss, partition, mtu, rate)
    if clear:
        wire.impair(lab, ())
    elif wanted != Impairment():
        wire.impair(lab, (*wire.impairments(lab), wanted))
    for each in wire.impairments(lab):
        print(each)


@lab.command()
@NAME
@click.option("--all", "everything", is_flag=True, help="Every lab of this machine.")
def down(name: str | None, everything: bool) -> None:
    """Remove a lab and all it made, whatever state it is in."""
    from labs import control, ledger

    for each in ledger.names() if everything else [name or control.only_lab()]:
        began = time.monotonic()
        control.down(each)
        print(f"lab {each!r}: gone in {time.monotonic() - began:.2f} s")


@lab.command("list")
@OUTPUT
def list_labs(output: str) -> None:
    """Show the labs of this machine."""
    from labs import ledger
    from labs.ledger import LabDirectory

    found = [ledger.read(LabDirectory(name)) for name in ledger.names()]
    rows = [
        {"name": lab.name, "phase": phase(lab.phase, lab.running), "nodes": len(lab.nodes)} for lab in found
    ]
    if output == "json":
        print_json("LabList", {"items": rows})
    else:
        print_table(("NAME", "PHASE", "NODES"), [(r["name"], r["phase"], r["nodes"]) for r in rows])


@lab.command()
@NAME
@OUTPUT
def status(name: str | None, output: str) -> None:
    """Show the nodes, pods and Services of a lab.

    The exit code is 1 unless it runs and all nodes are ready.
    """
    from labs import control

    found = control.status(name or control.only_lab())
    shown = phase(found.ledger.phase, found.running)
    nodes = [(node.metadata.name, _ready(node.status.conditions), node.spec.pod_cidr) for node in found.nodes]
    pods = [(pod.metadata.key, pod.status.phase, pod.status.pod_ip, pod.spec.node_name) for pod in found.pods]
    services = [(svc.metadata.key, svc.spec.cluster_ip) for svc in found.services]
    if output == "json":
        print_json(
            "Lab",
            {
                "name": found.ledger.name,
                "phase": shown,
                "server": found.ledger.server,
                "nodes": _dicts(("name", "ready", "podCIDR"), nodes),
                "pods": _dicts(("pod", "phase", "ip", "node"), pods),
                "services": _dicts(("service", "clusterIP"), services),
            },
        )
    else:
        print(f"lab {found.ledger.name!r}: {shown}, API server {found.ledger.server or 'not up'}\n")
        print_table(("NODE", "READY", "POD CIDR"), nodes)
        print()
        print_table(("POD", "PHASE", "IP", "NODE"), pods)
        print()
        print_table(("SERVICE", "CLUSTER IP"), services)
    healthy = shown == "ready" and bool(nodes) and all(ready == "yes" for _, ready, _ in nodes)
    sys.exit(0 if healthy else 1)


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@NAME
@click.argument("target")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def exec_command(name: str | None, target: str, command: Sequence[str]) -> None:
    """Run COMMAND inside TARGET: a node (node-1), the wire, or a pod ([NAMESPACE/]POD).

    The program comes from the machine, so every tool it has works in every namespace:
    kubenet lab exec node-1 -- ip route
    """
    from labs import control, inside

    if not command:
        raise InvalidInput(f"nothing to run in {target}", f"kubenet lab exec {target} -- ip address")
    inside.become(name or control.only_lab(), target, list(command))


@lab.command()
@NAME
@click.argument("target")
def shell(name: str | None, target: str) -> None:
    """Open your shell inside TARGET: a node (node-1), the wire, or a pod ([NAMESPACE/]POD)."""
    import os

    from labs import control, inside

    inside.become(name or control.only_lab(), target, [os.environ.get("SHELL") or "/bin/sh"])


@lab.command()
@NAME
@click.argument("target", required=False)
def logs(name: str | None, target: str | None) -> None:
    """Print what a pod ([NAMESPACE/]POD) or a daemon (node-1/proxy) has said; without TARGET, all daemons.

    kubenet lab logs demo/web-abc12
    """
    from labs import control, inside

    chosen = name or control.only_lab()
    if target is None or control.is_daemon(chosen, target):
        lines = control.daemon_log(chosen).read_text(errors="replace").splitlines(keepends=True)
        sys.stdout.writelines(line for line in lines if target is None or f" {target} " in line)
        return
    for path in inside.pod_logs(chosen, target):
        sys.stdout.write(path.read_text(errors="replace"))


@lab.command()
@NAME
def kubeconfig(name: str | None) -> None:
    """Print a kubeconfig for the lab: kubenet lab kubeconfig > FILE; kubectl --kubeconfig FILE get pods"""
    from labs import control
    from labs.kubeconfig import kubeconfig_text

    chosen = name or control.only_lab()
    print(kubeconfig_text(chosen, control.client_of(chosen).server), end="")


@lab.command()
@NAME
@click.option(
    "-o",
    "--output",
    type=click.Choice(["ascii", "mermaid", "dot", "svg", "html"]),
    default="ascii",
    show_default=True,
    help="html is one file with what each node's kernel says.",
)
def graph(name: str | None, output: str) -> None:
    """Draw a lab: nodes as boxes, pods inside, the wire.

    kubenet lab graph -o html > lab.html
    """
    from labs import control, page, picture

    chosen = name or control.only_lab()
    found = control.status(chosen)
    drawn = picture.picture_of(chosen, found.nodes, found.pods, found.services)
    if output == "html":
        drawn = control.with_details(drawn)
    forms = {
        "ascii": picture.ascii_art,
        "mermaid": picture.mermaid,
        "dot": picture.dot,
        "svg": page.svg,
        "html": page.page,
    }
    print(forms[output](drawn), end="")


@lab.group()
def daemon() -> None:
    """The daemons of a lab: controllers, scheduler, and on every node agent, kubelet, proxy and dns."""


@daemon.command("list")
@NAME
@OUTPUT
def list_daemons(name: str | None, output: str) -> None:
    """Show which daemons run."""
    from labs import control
    from labs.report import Order

    states = control.order(name or control.only_lab(), Order("list"))
    if output == "json":
        print_json("DaemonList", {"items": _dicts(("name", "state"), sorted(states.items()))})
    else:
        print_table(("DAEMON", "STATE"), sorted(states.items()))


@daemon.command()
@NAME
@click.argument("daemon")
def stop(name: str | None, daemon: str) -> None:
    """Stop DAEMON, as a crash would: what it wrote into the kernel stays, and nobody looks after it."""
    _switch(name, "stop", daemon)


@daemon.command()
@NAME
@click.argument("daemon")
def start(name: str | None, daemon: str) -> None:
    """Start DAEMON, and wait until it serves."""
    _switch(name, "start", daemon)


@daemon.command()
@NAME
@click.argument("daemon")
def restart(name: str | None, daemon: str) -> None:
    """Stop DAEMON and start it again."""
    _switch(name, "stop", daemon)
    _switch(name, "start", daemon)


def _switch(name: str | None, verb: Literal["start", "stop"], daemon: str) -> None:
    from labs import control
    from labs.report import Order

    states = control.order(name or control.only_lab(), Order(verb, daemon))
    print(f"{daemon}: {states[daemon]}")


def phase(written: str, running: bool) -> str:
    """Return what to call a lab whose ledger says ``written``."""
    return written if running else "dead"


def _ready(conditions: Iterable[object]) -> str:
    wanted = [c for c in conditions if getattr(c, "type", "") == "Ready"]
    return "yes" if wanted and getattr(wanted[0], "status", "") == "True" else "no"


def _dicts(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[dict[str, str]]:
    return [dict(zip(names, row, strict=True)) for row in rows]
