"""What a picture of a lab shows, and the text forms of it: ASCII, Mermaid, Graphviz. *Pure.*"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kubenet.model.objects import Node, Pod, Service


@dataclass(frozen=True, slots=True)
class PodBox:
    """A pod inside its node."""

    name: str
    ip: str
    ready: bool


@dataclass(frozen=True, slots=True)
class NodeBox:
    """A node with its pods. ``details`` are what its kernel says, by heading."""

    name: str
    ip: str
    pod_cidr: str
    ready: bool
    pods: Sequence[PodBox] = ()
    details: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A lab: nodes on one wire, Services beside them."""

    lab: str
    nodes: Sequence[NodeBox]
    services: Sequence[tuple[str, str]] = field(default_factory=tuple)  # name, cluster IP


def picture_of(lab: str, nodes: Iterable[Node], pods: Iterable[Pod], services: Iterable[Service]) -> Picture:
    """Return the picture of what the API says; pods without a node are left out."""
    by_node: dict[str, list[PodBox]] = {}
    for pod in sorted(pods, key=lambda pod: pod.metadata.key):
        box = PodBox(pod.metadata.key, pod.status.pod_ip, pod.ready)
        by_node.setdefault(pod.spec.node_name, []).append(box)
    boxes = [
        NodeBox(
            node.metadata.name,
            next((a.address for a in node.status.addresses if a.type == "InternalIP"), ""),
            node.spec.pod_cidr,
            any(c.type == "Ready" and c.status == "True" for c in node.status.conditions),
            tuple(by_node.get(node.metadata.name, ())),
        )
        for node in nodes
    ]
    shown = sorted((each.metadata.key, each.spec.cluster_ip) for each in services)
    return Picture(lab, tuple(sorted(boxes, key=_number)), tuple(shown))


def ascii_art(picture: Picture) -> str:
    """Return boxes side by side on one wire, three in a row."""
    rows = [picture.nodes[i : i + 3] for i in range(0, len(picture.nodes), 3)]
    blocks = [_row([_box(node) for node in row]) for row in rows]
    services = "".join(f"  {name:<32} {address}\n" for name, address in picture.services)
    return "\n".join(blocks) + (f"\nServices\n{services}" if services else "")


def mermaid(picture: Picture) -> str:
    """Return a Mermaid flowchart, as Markdown pages show it."""
    lines = ["flowchart TB", f'  wire(["wire of lab {picture.lab}"])']
    for node in picture.nodes:
        mark = _identifier(node.name)
        lines.append(f'  subgraph {mark}["{node.name} {node.ip}"]')
        lines.append(f'    {mark}_gw["kubenet.1 {node.pod_cidr}"]')
        lines += [f'    {_identifier(pod.name)}["{pod.name}<br/>{pod.ip}"]' for pod in node.pods]
        lines.append("  end")
        lines += [f"  {_identifier(pod.name)} --- {mark}_gw" for pod in node.pods]
        lines.append(f"  {mark}_gw === wire")
        if not node.ready:
            lines.append(f"  style {mark} stroke:#c00,stroke-width:3px")
    return "\n".join(lines) + "\n"


def dot(picture: Picture) -> str:
    """Return the picture in Graphviz's language."""
    lines = [
        f'graph "{picture.lab}" {{',
        "  node [shape=box fontname=sans];",
        '  wire [shape=oval label="wire"];',
    ]
    for node in picture.nodes:
        mark = _identifier(node.name)
        colour = "black" if node.ready else "red"
        lines.append(f'  subgraph cluster_{mark} {{ label="{node.name} {node.ip}"; color={colour};')
        lines.append(f'    {mark} [label="kubenet.1\\n{node.pod_cidr}"];')
        lines += [f'    {_identifier(p.name)} [label="{p.name}\\n{p.ip}"];' for p in node.pods]
        lines.append("  }")
        lines += [f"  {_identifier(pod.name)} -- {mark};" for pod in node.pods]
        lines.append(f"  {mark} -- wire [penwidth=3];")
    return "\n".join([*lines, "}"]) + "\n"


def _box(node: NodeBox) -> list[str]:
    said = [
        f"{node.name}{'' if node.ready else '  NOT READY'}",
        f"eth0 {node.ip}",
        f"pods {node.pod_cidr}",
        *(f"{'*' if pod.ready else '!'} {pod.name}  {pod.ip}" for pod in node.pods),
    ]
    width = max(len(line) for line in said)
    edge = f"+{'-' * (width + 2)}+"
    return [edge, *(f"| {line:<{width}} |" for line in said), edge]


def _row(boxes: Sequence[list[str]]) -> str:
    height = max(len(box) for box in boxes)
    padded = [[*box, *([""] * (height - len(box)))] for box in boxes]
    # The cable of each box comes out below it, however short the box is.
    for box, full in zip(boxes, padded, strict=True):
        for line in range(len(box), height):
            full[line] = "|".center(len(box[0]))
    lines = ["   ".join(parts).rstrip() for parts in zip(*padded, strict=True)]
    lines.append("   ".join("|".center(len(box[0])) for box in boxes).rstrip())
    lines.append("=" * max(len(line) for line in lines) + "  wire")
    return "\n".join(lines) + "\n"


def _identifier(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name)


def _number(node: NodeBox) -> tuple[int, str]:
    digits = node.name.rpartition("-")[2]
    return (int(digits) if digits.isdecimal() else 0, node.name)
