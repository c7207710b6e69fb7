"""``rewrite``: asks something else than the client did, and tells the answer as if it had not. *Pure.*

A name is rewritten as text, in lower case with its final dot, as a person writes it in a Corefile. The
question in the reply is always the client's own. Names in the answer are changed back where the rule says so,
and for an exact rule in any case: resolvers do not believe an answer that speaks of another name.

Source: manual page of the plugin rewrite of CoreDNS; RFC 7871 (client subnet), RFC 5001 (NSID).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

from dns import names
from dns.answer import Answer, Forward
from dns.chain import Decision, Next, Plugin, Request, changed, failing
from dns.names import WireName
from dns.plugins.values import (
    Edns0Rewrite,
    Match,
    NamePattern,
    NameRewrite,
    NumberRewrite,
    RcodeRewrite,
    RewriteRule,
    TtlRewrite,
)
from dns.records import NAMES_IN, RRset, with_names
from dns.wire import Rcode, RType
from kubenet.errors import InvalidInput

_NSID, _SUBNET = 3, 8
Rename = Callable[[str], str | None]  # what a name becomes; None: it stays


def rewrite_plugin(rules: tuple[RewriteRule, ...]) -> Plugin:
    """Return the plugin that applies the first of ``rules`` that fits, and those after one that goes on."""

    def rewrite(request: Request, serve: Next) -> Decision:
        changes: list[Callable[[Answer], Answer]] = []
        options = b""
        for rule in rules:
            try:
                found = _apply(rule, request)
            except InvalidInput:
                return failing(Rcode.SERVFAIL)  # what the name becomes is none
            if found is None:
                continue
            request, change, option = found
            options += option
            changes.append(change or _as_it_is)
            if rule.stop:
                break
        decision = serve(request)
        if options and isinstance(decision, Forward):
            decision = replace(decision, options=decision.options + options)
        for change in reversed(changes):
            decision = changed(decision, change)
        return decision

    return rewrite


_Applied = tuple[Request, Callable[[Answer], Answer] | None, bytes]


def _apply(rule: RewriteRule, request: Request) -> _Applied | None:
    """Return the new request, what to do with its answer, and options for upstream; None: it does not fit."""
    change = rule.change
    question = request.question
    match change:
        case NameRewrite():
            return _apply_name(change, request)
        case NumberRewrite("type") if question.qtype == change.source:
            return request.asking(replace(question, qtype=change.target)), None, b""
        case NumberRewrite("class") if question.qclass == change.source:
            return request.asking(replace(question, qclass=change.target)), None, b""
        case TtlRewrite() if renamed(change.pattern, "", names.to_text(request.name)) is not None:
            return request, lambda answer: _with_ttls(answer, change), b""
        case RcodeRewrite() if renamed(change.pattern, "", names.to_text(request.name)) is not None:
            return request, lambda answer: _with_rcode(answer, change), b""
        case Edns0Rewrite():
            return request, None, _option(change, request)
        case _:
            return None


def renamed(pattern: NamePattern, target: str, name: str) -> str | None:
    """Return what ``name`` becomes, None if it does not match. Names end in a dot."""
    text = pattern.text
    match pattern.match:
        case Match.EXACT:
            return target if name == text else None
        case Match.PREFIX:
            return target + name.removeprefix(text) if name.startswith(text) else None
        case Match.SUFFIX:
            return name.removesuffix(text) + target if name.endswith(text) else None
        case Match.SUBSTRING:
            return name.replace(text, target) if text in name else None
        case Match.REGEX:
            return _by_regex(text, target, name)


def _by_regex(pattern: str, target: str, name: str) -> str | None:
    found = re.search(pattern, name)
    if found is None:
        return None
    groups = (found[0], *found.groups(default=""))
    for number, group in enumerate(groups):
        target = target.replace(f"{{{number}}}", group)
    return target


def _apply_name(change: NameRewrite, request: Request) -> _Applied | None:
    asked = names.to_text(request.name)
    text = renamed(change.pattern, change.target, asked)
    if text is None:
        return None
    became = names.from_text(text).lower()
    rename = _rename_back(change, asked, names.to_text(became))
    inner = request.asking(replace(request.question, name=became))
    if rename is None and not change.answer_names and not change.answer_values:
        return inner, None, b""
    return inner, lambda answer: _with_names(answer, change, rename), b""


def _rename_back(change: NameRewrite, asked: str, became: str) -> Rename | None:
    """Return how names of the answer become what the client knows, None if they stay."""
    match change.pattern.match:
        case Match.EXACT:
            return {became: asked}.get
        case Match.SUFFIX if change.auto:
            back = NamePattern(Match.SUFFIX, change.target)
            return lambda name: renamed(back, change.pattern.text, name)
        case Match.PREFIX if change.auto:
            back = NamePattern(Match.PREFIX, change.target)
            return lambda name: renamed(back, change.pattern.text, name)
        case _ if change.auto:
            return {became: asked}.get
        case _:
            return None


def _as_it_is(answer: Answer) -> Answer:
    """Return the answer; it is to another question than the client's, and not to be kept for that."""
    return replace(answer, service=None)


def _with_names(answer: Answer, change: NameRewrite, rename: Rename | None) -> Answer:
    owners = [rename] if rename else []
    owners += [_regex_rename(*pair) for pair in change.answer_names]
    values = [rename] if rename else []
    values += [_regex_rename(*pair) for pair in change.answer_values]

    def section(rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        return tuple(_renamed_set(rrset, owners, values) for rrset in rrsets)

    return replace(
        answer,
        answers=section(answer.answers),
        authority=section(answer.authority),
        additional=section(answer.additional),
        service=None,
    )


def _regex_rename(pattern: str, target: str) -> Rename:
    return lambda name: _by_regex(pattern, target, name)


def _renamed_set(rrset: RRset, owners: list[Rename], values: list[Rename]) -> RRset:
    # The SOA record names the zone that answered; it stays true.
    if rrset.rtype == RType.SOA:
        return rrset
    contents = rrset.contents
    if rrset.rtype in NAMES_IN:
        contents = tuple(
            with_names(rrset.rtype, each, lambda name: _first(name, values)) for each in contents
        )
    return replace(rrset, owner=_first(rrset.owner, owners).lower(), contents=contents)


def _first(name: WireName, renames: list[Rename]) -> WireName:
    text = names.to_text(name.lower())
    for rename in renames:
        became = rename(text)
        if became is not None:
            try:
                return names.from_text(became)
            except InvalidInput:
                return name  # too long now; the answer stays true as it is
    return name


def _with_ttls(answer: Answer, change: TtlRewrite) -> Answer:
    def section(rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
        return tuple(
            replace(rrset, ttl_s=min(max(rrset.ttl_s, change.least_s), change.most_s)) for rrset in rrsets
        )

    return replace(
        answer,
        answers=section(answer.answers),
        authority=section(answer.authority),
        additional=section(answer.additional),
        service=None,
    )


def _with_rcode(answer: Answer, change: RcodeRewrite) -> Answer:
    if change.source not in (None, answer.rcode):
        return answer
    return replace(answer, rcode=Rcode(change.target), service=None)


def _option(change: Edns0Rewrite, request: Request) -> bytes:
    """Return the option as it travels; empty if there is one already and the rule only appends."""
    code = {"nsid": _NSID, "subnet": _SUBNET}.get(change.kind, change.code)
    match change.kind:
        case "nsid":
            content = b""
        case "subnet":
            content = _subnet(request.client, change.prefixes)
        case _:
            content = _local(change.content, request)
    return code.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


def _subnet(client: str, prefixes: tuple[int, int]) -> bytes:
    address = ip_address(client.partition("%")[0])
    family = 1 if address.version == 4 else 2
    bits = prefixes[family - 1]
    packed = ip_network(f"{address}/{bits}", strict=False).network_address.packed
    return family.to_bytes(2, "big") + bytes((bits, 0)) + packed[: -(-bits // 8)]


def _local(text: str, request: Request) -> bytes:
    if text.startswith("0x"):
        return bytes.fromhex(text[2:])
    variables: Mapping[str, bytes] = {
        "{qname}": names.to_text(request.name).encode(),
        "{qtype}": request.question.qtype.to_bytes(2, "big"),
        "{client_ip}": ip_address(request.client.partition("%")[0]).packed,
        "{protocol}": b"tcp" if request.stream else b"udp",
    }
    return variables.get(text, text.encode())
