"""A lab as a file: nodes, networks, the wire, pods, Services, in YAML; mistakes are named by line. *Pure.*

::

    name: shop
    nodes: 3
    proxyMode: nftables
    balance: round-robin
    clusterCIDR: 10.200.0.0/16
    images:
      example.com/echo: [/usr/bin/python3, -m, http.server, "8080"]
    wire:
      - {from: node-1, to: node-2, lossPercent: 5}
    objects:
      - apiVersion: v1
        kind: Pod
        ...
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

import msgspec
import yaml

from kubenet.client.manifest import Manifest, check_depth, parse
from kubenet.errors import InvalidManifest
from labs.impairments import Impairment
from labs.topology import LabSpec


class LabFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What the file says."""

    name: str = "demo"
    nodes: int = 3
    balance: Literal["random", "round-robin"] = "random"
    proxy_mode: Literal["iptables", "nftables", ""] = ""
    wiring: Literal["routed", "bridge"] = "routed"
    cluster_cidr: IPv4Network | None = msgspec.field(name="clusterCIDR", default=None)
    service_cidr: IPv4Network | None = msgspec.field(name="serviceCIDR", default=None)
    cluster_dns: IPv4Address | None = msgspec.field(name="clusterDNS", default=None)
    cluster_domain: str = "cluster.local"
    images: dict[str, tuple[str, ...]] = {}
    wire: tuple[Impairment, ...] = ()
    objects: tuple[dict[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedLab:
    """A lab file, read."""

    spec: LabSpec
    wire: tuple[Impairment, ...]
    objects: tuple[Manifest, ...]


def read_lab(text: str, where: str) -> PlannedLab:
    """Return the lab that a file describes. Raises InvalidManifest with file and line."""
    tree, lines = _tree(text, where)
    try:
        said = msgspec.convert(tree, type=LabFile, dec_hook=_address)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `")
        raise _mistake(where, _line(lines, path.rstrip("`")), problem) from error
    return PlannedLab(_spec(said), said.wire, tuple(_manifests(said, lines, where)))


def _spec(said: LabFile) -> LabSpec:
    spec = LabSpec(
        said.name,
        said.nodes,
        said.balance,
        proxy_mode=said.proxy_mode,
        wiring=said.wiring,
        cluster_domain=said.cluster_domain,
        images=said.images,
    )
    return replace(
        spec,
        cluster_cidr=said.cluster_cidr or spec.cluster_cidr,
        service_cidr=said.service_cidr or spec.service_cidr,
        cluster_dns=said.cluster_dns or spec.cluster_dns,
    )


def _manifests(said: LabFile, lines: Mapping[str, int], where: str) -> list[Manifest]:
    found: list[Manifest] = []
    for number, body in enumerate(said.objects):
        line = _line(lines, f"$.objects[{number}]")
        found += parse(msgspec.json.encode(body).decode(), f"{where}:{line}")
    return found


def _tree(text: str, where: str) -> tuple[object, dict[str, int]]:
    """Return the content, and on which line each part of it begins."""
    try:
        check_depth(text, where)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _mistake(where, line, f"not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise _mistake(where, 1, f"not YAML: {error}") from error
    lines: dict[str, int] = {}
    _number(root, "$", lines)
    return {} if content is None else content, lines


def _number(node: yaml.Node | None, path: str, lines: dict[str, int]) -> None:
    if node is None:
        return
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = f"{path}.{key.value}"
            lines[below] = key.start_mark.line + 1
            _number(value, below, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _number(value, f"{path}[{number}]", lines)


def _line(lines: Mapping[str, int], path: str) -> int:
    """Return the line of a path, or of the nearest part of it that stands in the file."""
    while path and path not in lines:
        shorter = re.sub(r"(\.[^.\[]*|\[[^\]]*\])$", "", path)
        if shorter == path:
            break
        path = shorter
    return lines.get(path, 1)


def _mistake(where: str, line: int, problem: str) -> InvalidManifest:
    return InvalidManifest(f"{where}:{line}: {problem}", "docs/lab-file.md has every field")


def _address(kind: type, value: object) -> object:
    return value if kind is object else kind(value)
