"""``header``, ``minimal``, ``dns64`` and ``autopath``: what becomes of answers on their way back. *Pure.*

Source: manual pages of these plugins of CoreDNS; RFC 6147 (DNS64), RFC 6052 section 2.2 (addresses).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Network, ip_address, ip_network

from dns.answer import Answer
from dns.chain import Decision, Next, Plugin, Request, changed
from dns.corefile import Directive
from dns.names import WireName, from_text, is_in
from dns.plugins.values import AutopathConfig, Dns64Config, HeaderConfig
from dns.records import RRset
from dns.settings import Block
from dns.wire import AA, AD, CD, CLASS_IN, RA, RD, Rcode, RType
from dns.words import one_value, unknown_option, zones_of_all
from kubenet.errors import InvalidInput

_FLAGS: Mapping[str, int] = {"aa": AA, "ra": RA, "rd": RD, "ad": AD, "cd": CD}


def read_header(block: Block, directive: Directive) -> Block:
    """Return the block with flags to set and to clear; the last word on one counts. Raises InvalidInput."""
    config = block.header or HeaderConfig()
    for option in directive.options:
        action, flags = option.name, option.args
        if action == "response" and flags:
            action, flags = flags[0], flags[1:]
        if action == "query":
            raise option.wrong("flags of queries are not done yet")
        if action not in ("set", "clear"):
            raise unknown_option(option, "header", ("set", "clear", "response"))
        config = _flagged(config, option, action, flags)
    return replace(block, header=config)


def _flagged(config: HeaderConfig, option: Directive, action: str, flags: Sequence[str]) -> HeaderConfig:
    for flag in flags:
        if flag not in _FLAGS:
            raise option.wrong(f"{flag!r} is not one of {', '.join(_FLAGS)}")
        bit = _FLAGS[flag]
        if action == "set":
            config = HeaderConfig(config.set_flags | bit, config.clear_flags & ~bit)
        else:
            config = HeaderConfig(config.set_flags & ~bit, config.clear_flags | bit)
    return config


def header_plugin(config: HeaderConfig) -> Plugin:
    """Return the plugin that sets and clears flags of every reply."""

    def flagged(answer: Answer) -> Answer:
        return replace(
            answer,
            set_flags=(answer.set_flags & ~config.clear_flags) | config.set_flags,
            clear_flags=(answer.clear_flags & ~config.set_flags) | config.clear_flags,
        )

    def header(request: Request, serve: Next) -> Decision:
        return changed(serve(request), flagged)

    return header


def minimal(request: Request, serve: Next) -> Decision:
    """Leave out what nobody asked for, where there is an answer."""
    return changed(serve(request), _without_extras)


def _without_extras(answer: Answer) -> Answer:
    return replace(answer, authority=(), additional=()) if answer.answers else answer


def read_dns64(block: Block, directive: Directive) -> Block:
    """Return the block that makes IPv6 addresses of IPv4 ones. Raises InvalidInput."""
    config = Dns64Config(_prefix(directive, one_value(directive) if directive.args else "64:ff9b::/96"))
    for option in directive.options:
        match option.name:
            case "prefix":
                config = replace(config, prefix=_prefix(option, one_value(option)))
            case "translate_all":
                config = replace(config, translate_all=True)
            case "allow_ipv4":
                config = replace(config, allow_ipv4=True)
            case _:
                raise unknown_option(option, "dns64", ("prefix", "translate_all", "allow_ipv4"))
    return replace(block, dns64=config)


def _prefix(directive: Directive, text: str) -> IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise directive.wrong(str(error)) from error
    if not isinstance(network, IPv6Network) or network.prefixlen not in (32, 40, 48, 56, 64, 96):
        raise directive.wrong(f"{text}: must be an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits")
    return network


def dns64_plugin(config: Dns64Config) -> Plugin:
    """Return the plugin that asks for A where a name has no AAAA."""

    def dns64(request: Request, serve: Next) -> Decision:
        question = request.question
        asked = question.qtype == RType.AAAA and question.qclass == CLASS_IN
        if not asked or not (config.allow_ipv4 or ":" in request.client):
            return serve(request)
        as_ipv4 = request.asking(replace(question, qtype=RType.A))
        if config.translate_all:
            return changed(serve(as_ipv4), lambda found: translated(found, config.prefix))

        def completed(found: Answer) -> Decision:
            if found.rcode == Rcode.NXDOMAIN or any(each.rtype == RType.AAAA for each in found.answers):
                return found
            return changed(serve(as_ipv4), lambda four: _better(found, four, config.prefix))

        return changed(serve(request), completed)

    return dns64


def _better(six: Answer, four: Answer, prefix: IPv6Network) -> Answer:
    return translated(four, prefix) if any(each.rtype == RType.A for each in four.answers) else six


def translated(answer: Answer, prefix: IPv6Network) -> Answer:
    """Return the answer with its IPv4 addresses as IPv6 ones."""
    answers = tuple(
        RRset(
            rrset.owner,
            RType.AAAA,
            rrset.ttl_s,
            tuple(embedded(prefix, packed) for packed in rrset.contents),
        )
        if rrset.rtype == RType.A
        else rrset
        for rrset in answer.answers
    )
    return replace(answer, answers=answers, service=None)


def embedded(prefix: IPv6Network, packed: bytes) -> bytes:
    """Return an IPv4 address inside an IPv6 prefix; octet 8 stays 0 (RFC 6052 section 2.2)."""
    head = prefix.network_address.packed[: prefix.prefixlen // 8]
    if len(head) == 12:
        return head + packed
    before = packed[: 8 - len(head)]
    whole = head + before + b"\0" + packed[len(before) :]
    return whole.ljust(16, b"\0")


def read_autopath(block: Block, directive: Directive) -> Block:
    """Return the block that walks search paths. Raises InvalidInput."""
    if not directive.args:
        raise directive.wrong("needs @kubernetes or a file such as /etc/resolv.conf")
    *zones, source = directive.args
    if source.startswith("@") and source != "@kubernetes":
        raise directive.wrong(f"{source} is not done yet; there is @kubernetes")
    file = "" if source == "@kubernetes" else source
    return replace(block, autopath=AutopathConfig(zones_of_all(tuple(zones)) or block.zones, file))


Paths = Callable[[bytes], tuple[WireName, ...]]  # the search path of who has this address, empty if unknown


def autopath_plugin(config: AutopathConfig, path_of: Paths) -> Plugin:
    """Return the plugin that tries the names of a search path for a client that asks for the first one."""

    def autopath(request: Request, serve: Next) -> Decision:
        name, question = request.name, request.question
        if question.qtype not in (RType.A, RType.AAAA) or not any(is_in(name, each) for each in config.zones):
            return serve(request)
        path = path_of(ip_address(request.client.partition("%")[0]).packed)
        if not path or path[0] == b"\0" or not is_in(name, path[0]) or name == path[0]:
            return serve(request)
        base = name[: -len(path[0])]
        candidates = [base + ending for ending in path[1:] if len(base) + len(ending) <= 255]
        return changed(serve(request), lambda first: _walk(request, serve, first, candidates))

    return autopath


def _walk(request: Request, serve: Next, first: Answer, left: Sequence[WireName]) -> Decision:
    """Return ``first`` if it exists, else the next name that does; at the end what was said at first."""
    if first.rcode != Rcode.NXDOMAIN or not left:
        return first
    target = left[0]

    def judged(found: Answer) -> Decision:
        if found.rcode == Rcode.NOERROR and found.answers:
            alias = RRset(request.name, RType.CNAME, found.answers[0].ttl_s, (target,))
            return replace(found, answers=(alias, *found.answers), service=None)
        return _walk(request, serve, first, left[1:])

    return changed(serve(request.asking(replace(request.question, name=target))), judged)


def search_path(lines: Sequence[str]) -> tuple[WireName, ...]:
    """Return the names of the last ``search`` line of a resolv.conf, the root at the end."""
    found: list[WireName] = []
    for line in lines:
        words = line.split()
        if words[:1] == ["search"]:
            found = [from_text(word.lower()) for word in words[1:]]
    if not found:
        raise InvalidInput("no search line")
    return (*found, b"\0")
