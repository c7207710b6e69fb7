"""KubeProxyConfiguration as text: its fields with their lines, and the same the other way round. *Pure.*

Source: Kubernetes kubeproxy.config.k8s.io/v1alpha1; YAML 1.1 as PyYAML reads it.
"""

import re
from collections.abc import Mapping

import yaml

from kubenet.errors import InvalidInput
from proxy.config_values import Value

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"
_MAX_DEPTH = 20
_SECTIONS = ("clientConnection", "iptables", "nftables", "conntrack", "detectLocal", "logging")


def fields(text: str, source: str) -> dict[str, tuple[Value, int]]:
    """Return the values by path, each with its line. Raises InvalidInput."""
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise InvalidInput(f"{where}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(node, yaml.MappingNode):
        raise InvalidInput(f"{source}: not a {KIND}")
    found = dict(_walk(node, source))
    for name, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        value, line = found.get(name, ("", 1))
        if value != expected:
            raise InvalidInput(f"{source}:{line}: {name} is {value!r}, not {expected!r}")
    return found


def written(values: Mapping[str, Value]) -> str:
    """Return the file that ``fields`` reads as ``values``, by path."""
    tree: dict[str, Value] = {"apiVersion": API_VERSION, "kind": KIND}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        inside = tree.setdefault(section, {}) if section else tree
        assert isinstance(inside, dict)
        inside[name] = value
    return str(yaml.safe_dump(tree, sort_keys=False))


def _walk(node: yaml.MappingNode, source: str, prefix: str = "") -> list[tuple[str, tuple[Value, int]]]:
    found: list[tuple[str, tuple[Value, int]]] = []
    seen = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        path = f"{prefix}{_named_key(key, source)}"
        if path in seen:
            raise InvalidInput(f"{source}:{line}: field {path!r} stands twice")
        seen.add(path)
        if isinstance(value, yaml.MappingNode) and path in _SECTIONS:
            found += _walk(value, source, f"{path}.")
        else:
            found.append((path, (_named(value, source), line)))
    return found


class _Refused(InvalidInput):
    """What cannot be meant, and its line."""

    def __init__(self, node: yaml.Node, why: str) -> None:
        super().__init__(why)
        self.line = node.start_mark.line + 1


def _named(node: yaml.Node, source: str) -> Value:
    try:
        return _plain(node)
    except _Refused as refused:
        raise InvalidInput(f"{source}:{refused.line}: {refused}") from None


def _named_key(node: yaml.Node, source: str) -> str:
    try:
        return _key(node)
    except _Refused as refused:
        raise InvalidInput(f"{source}:{refused.line}: {refused}") from None


def _plain(node: yaml.Node, depth: int = 0) -> Value:
    if depth > _MAX_DEPTH:
        raise _Refused(node, f"nested more than {_MAX_DEPTH} deep")
    if isinstance(node, yaml.MappingNode):
        return {_key(key): _plain(value, depth + 1) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(each, depth + 1) for each in node.value]
    return _scalar(node)


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Refused(node, "a list or mapping is no name of a field")
    return str(node.value)


def _scalar(node: yaml.Node) -> Value:
    text = str(node.value)
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("true", "yes", "on")
    if kind == "int" and re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    return text
