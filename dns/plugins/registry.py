"""What the plugins of a Corefile are told, as values. *Pure.*

A reader a plugin turns a directive into a value; what it does not know is an error that names file, line and
word. A plugin that exists in CoreDNS but not here is refused by name, never silently left out: a server that
ignores half of its configuration answers wrongly.

Source: the plugins' manual pages of CoreDNS.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from posixpath import join

from dns import names
from dns.corefile import Directive, ServerBlock
from dns.names import WireName
from dns.plugins.cache import read_cache
from dns.plugins.errors import read_errors
from dns.plugins.files import read_auto, read_file, read_transfer
from dns.plugins.forward import read_forward
from dns.plugins.guards import read_acl, read_chaos
from dns.plugins.hosts import read_hosts
from dns.plugins.kubernetes import read_kubernetes
from dns.plugins.querylog import read_log
from dns.plugins.read_rewrite import read_rewrite
from dns.plugins.serving import (
    flag,
    read_bind,
    read_bufsize,
    read_health,
    read_loadbalance,
    read_nsid,
    read_prometheus,
    read_ready,
    read_reload,
    read_root,
    read_tls,
    read_view,
)
from dns.plugins.shapes import read_autopath, read_dns64, read_header
from dns.plugins.template import read_template
from dns.settings import Block
from dns.words import did_you_mean, zones_of
from kubenet.errors import InvalidInput
from kubenet.model.links import IPAddress

DNS_PORT = 53


def read_blocks(parsed: tuple[ServerBlock, ...], port: int = DNS_PORT) -> tuple[Block, ...]:
    """Return what a Corefile says. ``port`` is for keys without one. Raises InvalidInput."""
    found: list[Block] = []
    taken: dict[tuple[WireName, int, tuple[IPAddress, ...]], ServerBlock] = {}
    for each in parsed:
        for block in _of_server_block(each, port):
            for zone in block.zones:
                key = (zone, block.port, block.bind)
                if key in taken and not block.views:
                    raise InvalidInput(
                        f"{each.where}: {names.to_text(zone)} port {block.port} is served already, by"
                        f" {taken[key].where}"
                    )
                if not block.views:
                    taken[key] = each
            found.append(block)
    return tuple(found)


def _of_server_block(parsed: ServerBlock, port: int) -> Iterator[Block]:
    by_port: dict[tuple[str, int], list[WireName]] = {}
    for key in parsed.keys:
        try:
            zones, scheme, key_port = _key(key, port)
        except ValueError as error:
            raise InvalidInput(f"{parsed.where}: key {key!r}: {error}") from error
        except InvalidInput as error:
            raise InvalidInput(f"{parsed.where}: key {key!r}: {error}", error.next_step) from error
        by_port.setdefault((scheme, key_port), []).extend(zones)
    for (scheme, key_port), zones in by_port.items():
        block = Block(tuple(dict.fromkeys(zones)), key_port, parsed.where.file, scheme=scheme)
        for directive in parsed.directives:
            block = _with(block, directive)
        if block.scheme == "tls" and block.tls is None:
            raise InvalidInput(f"{parsed.where}: tls://: needs the plugin tls with a certificate and its key")
        block = _rooted(block)
        yield replace(block, seen=frozenset(directive.name for directive in parsed.directives))


def _rooted(block: Block) -> Block:
    """Return the block with the directory of ``root`` before relative paths."""
    if not block.root:
        return block
    files = tuple(replace(each, path=join(block.root, each.path)) for each in block.files)
    directories = tuple(
        replace(each, directory=join(block.root, each.directory)) for each in block.directories
    )
    hosts = block.hosts
    if hosts and hosts.file:
        hosts = replace(hosts, file=join(block.root, hosts.file))
    return replace(block, files=files, directories=directories, hosts=hosts)


_PORTS = {"tls": 853, "https": 443}
_LATER = ("grpc", "https3", "quic")


def _key(text: str, port: int) -> tuple[list[WireName], str, int]:
    """Return the zones, the transport and the port that a key names. Raises InvalidInput."""
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "dns", text
    elif scheme in _LATER:
        raise InvalidInput(f"transport {scheme} is not done yet")
    elif scheme not in ("dns", *_PORTS):
        raise InvalidInput(f"transport {scheme}: there are dns, tls and https", did_you_mean(scheme, _PORTS))
    host, colon, digits = rest.rpartition(":")
    if colon and digits.isdecimal():
        if not 0 < int(digits) < 65536:
            raise InvalidInput(f"port {digits}: must be 1 to 65535")
        return zones_of(host or "."), scheme, int(digits)
    return zones_of(rest), scheme, _PORTS.get(scheme, port)


def _with(block: Block, directive: Directive) -> Block:
    reader = _READERS.get(directive.name)
    if reader is None:
        if directive.name in NOT_YET:
            raise InvalidInput(f"{directive.where}: plugin {directive.name} is not done yet")
        text = f"{directive.where}: unknown plugin {directive.name!r}"
        raise InvalidInput(text, did_you_mean(directive.name, DONE | NOT_YET))
    try:
        return reader(block, directive)
    except InvalidInput as error:
        if str(error).startswith(str(directive.where.file)):
            raise
        raise directive.wrong(str(error)) from error


_READERS: Mapping[str, Callable[[Block, Directive], Block]] = {
    "acl": read_acl,
    "any": flag("any"),
    "auto": read_auto,
    "autopath": read_autopath,
    "bind": read_bind,
    "bufsize": read_bufsize,
    "cancel": flag(""),  # no query waits longer than its clients do
    "cache": read_cache,
    "chaos": read_chaos,
    "debug": flag(""),  # --verbose decides what is said
    "dns64": read_dns64,
    "errors": read_errors,
    "file": read_file,
    "forward": read_forward,
    "header": read_header,
    "health": read_health,
    "hosts": read_hosts,
    "kubernetes": read_kubernetes,
    "loadbalance": read_loadbalance,
    "local": flag("local"),
    "log": read_log,
    "loop": flag("loop"),
    "metadata": flag(""),  # what plugins publish is always at hand
    "minimal": flag("minimal"),
    "nsid": read_nsid,
    "prometheus": read_prometheus,
    "ready": read_ready,
    "reload": read_reload,
    "rewrite": read_rewrite,
    "root": read_root,
    "template": read_template,
    "tls": read_tls,
    "transfer": read_transfer,
    "view": read_view,
    "whoami": flag("whoami"),
}

DONE = frozenset(_READERS)
NOT_YET = frozenset(
    (
        "azure",
        "clouddns",
        "dnssec",
        "dnstap",
        "erratic",
        "etcd",
        "geoip",
        "grpc",
        "grpc_server",
        "https3",
        "k8s_external",
        "multisocket",
        "nomad",
        "pprof",
        "quic",
        "route53",
        "secondary",
        "sign",
        "timeouts",
        "trace",
        "tsig",
    )
)
