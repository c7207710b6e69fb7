"""``acl``, ``local``, ``any``, ``chaos`` and ``whoami``: what is settled without looking a name up. *Pure.*

Source: manual pages of these plugins of CoreDNS; RFC 8482 (ANY), RFC 4892 (CH TXT), RFC 6761 (localhost),
RFC 8914 (extended errors).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from dns import names
from dns.answer import Answer, refuse
from dns.chain import DROP, Decision, Next, Request
from dns.corefile import Directive
from dns.names import is_in
from dns.plugins.values import Acl, AclRule, ChaosConfig, Network
from dns.records import RRset, addresses, srv_content, text_content
from dns.settings import Block
from dns.wire import CLASS_CH, Rcode, RType, extended_error
from dns.words import record_type, unknown_option, zones_of_all

_ACTIONS = ("allow", "block", "filter", "drop")
_BLOCKED, _FILTERED = 15, 17  # RFC 8914
VERSION = "kubenet"
AUTHORS = ("kubenet",)


def read_acl(block: Block, directive: Directive) -> Block:
    """Return the block with one more list of rules. Raises InvalidInput."""
    rules = tuple(_acl_rule(option) for option in directive.options)
    return replace(block, acls=(*block.acls, Acl(zones_of_all(directive.args) or block.zones, rules)))


def _acl_rule(option: Directive) -> AclRule:
    if option.name not in _ACTIONS:
        raise unknown_option(option, "acl", _ACTIONS)
    rtypes: set[int] = set()
    networks: list[Network] = []
    what = ""
    for word in option.args:
        if word in ("type", "net"):
            what = word
        elif what == "type" and word not in ("*", "ANY"):
            rtypes.add(record_type(word))
        elif what == "net" and word != "*":
            try:
                networks.append(ip_network(word, strict=False))
            except ValueError as error:
                raise option.wrong(str(error)) from error
        elif not what:
            raise option.wrong(f"unexpected {word!r}; there are type and net")
    return AclRule(option.name, frozenset(rtypes), tuple(networks))


_OUTCOMES: Mapping[str, Decision | None] = {
    "allow": None,
    "block": replace(refuse(Rcode.REFUSED), options=extended_error(_BLOCKED)),
    "filter": Answer(Rcode.NOERROR, options=extended_error(_FILTERED)),
    "drop": DROP,
}


def acl_plugin(config: Acl) -> Callable[[Request, Next], Decision]:
    """Return the plugin that lets the first rule that fits decide."""

    def acl(request: Request, serve: Next) -> Decision:
        if not any(is_in(request.name, zone) for zone in config.zones):
            return serve(request)
        rule = next((rule for rule in config.rules if _meets(rule, request)), None)
        outcome = _OUTCOMES[rule.action] if rule else None
        return serve(request) if outcome is None else outcome

    return acl


def _meets(rule: AclRule, request: Request) -> bool:
    if rule.rtypes and request.question.qtype not in rule.rtypes:
        return False
    return not rule.networks or is_within(request.client, rule.networks)


def is_within(client: str, networks: Sequence[Network]) -> bool:
    """Return whether a client's address is in one of some networks."""
    address = ip_address(client.partition("%")[0])
    return any(address in network for network in networks)


_LOCALHOST = b"\x09localhost\0"
_OWN = {RType.A: bytes((127, 0, 0, 1)), RType.AAAA: bytes(15) + b"\x01"}
_POINTERS = frozenset(names.reverse_name(packed) for packed in _OWN.values())
_LOCAL_TTL_S = 86400


def local(request: Request, serve: Next) -> Decision:
    """Answer for localhost and its pointers; that never leaves the machine."""
    name, qtype = request.name, request.question.qtype
    if is_in(name, _LOCALHOST):
        packed = _OWN.get(RType(qtype)) if qtype in _OWN else None
        found = (addresses(name, qtype, _LOCAL_TTL_S, (packed,)),) if packed else ()
        return Answer(Rcode.NOERROR, found)
    if name in _POINTERS and qtype == RType.PTR:
        return Answer(Rcode.NOERROR, (RRset(name, RType.PTR, _LOCAL_TTL_S, (_LOCALHOST,)),))
    return serve(request)


def minimal_any(request: Request, serve: Next) -> Decision:
    """Answer ANY with a record that says nothing (RFC 8482 section 4.2)."""
    if request.question.qtype != RType.ANY:
        return serve(request)
    content = text_content(b"ANY obsoleted") + text_content(b"See RFC 8482")
    return Answer(Rcode.NOERROR, (RRset(request.name, RType.HINFO, 8482, (content,)),))


def whoami(request: Request) -> Decision:
    """Tell who asks: address and port, as additional records of the name that was asked."""
    address, origin = ip_address(request.client.partition("%")[0]), request.origin
    rtype = RType.A if address.version == 4 else RType.AAAA
    label = b"\x04_tcp" if origin.stream else b"\x04_udp"
    told = [RRset(request.name, rtype, 0, (address.packed,))]
    if len(label) + len(request.name) <= names.MAX_NAME:
        told.append(RRset(label + request.name, RType.SRV, 0, (srv_content(0, origin.port, names.ROOT),)))
    return Answer(Rcode.NOERROR, additional=tuple(told), plugin="whoami")


def read_chaos(block: Block, directive: Directive) -> Block:
    """Return the block that tells its version. Raises InvalidInput."""
    if directive.options:
        raise unknown_option(directive.options[0], "chaos")
    version, *authors = directive.args or (VERSION,)
    if any(len(text.encode()) > 255 for text in directive.args):
        raise directive.wrong("a text of more than 255 octets")
    return replace(block, chaos=ChaosConfig(version, tuple(authors) or AUTHORS))


def chaos_plugin(config: ChaosConfig, hostname: str) -> Callable[[Request, Next], Decision]:
    """Return the plugin that answers what is asked of the server itself."""
    own = text_content(hostname.encode()[:255])
    version = (text_content(config.version.encode()),)
    told = {
        b"\x07version\x04bind\0": version,
        b"\x07version\x06server\0": version,
        b"\x08hostname\x04bind\0": (own,),
        b"\x02id\x06server\0": (own,),
        b"\x07authors\x04bind\0": tuple(text_content(author.encode()) for author in config.authors),
    }

    def chaos(request: Request, serve: Next) -> Decision:
        question = request.question
        contents = told.get(request.name)
        if question.qclass != CLASS_CH or question.qtype != RType.TXT or contents is None:
            return serve(request)
        return Answer(Rcode.NOERROR, (RRset(request.name, RType.TXT, 0, contents),))

    return chaos
