"""Where a connection goes, told from the rules that a node would have."""

from kubenet.errors import InvalidInput
from kubenet.model.iptables import Table
from kubenet.model.nft import Ruleset, rule_text
from kubenet.model.objects import Node
from kubenet.model.protocol import Protocol
from proxy.backend import ProxyMode
from proxy.compile_iptables import compile_iptables
from proxy.compile_nft import compile_nft
from proxy.nft_names import TABLE
from proxy.node_config import ProxyConfig, locality_of, track_rules
from proxy.policy import ServingPort, serve
from proxy.ports import NodeNetwork, parse_ip
from proxy.simulate import Arrives, Course, Host, Packet, Step, courses
from proxy.simulate_nft import nft_courses
from proxy.source import Source
from proxy.track import track


def packet_of(source: str, destination: str, protocol: Protocol, ifname: str = "") -> Packet:
    """Return the first packet of a connection; the destination is IP:PORT. Raises InvalidInput."""
    host, _, port = destination.rpartition(":")
    from_ip, to_ip = parse_ip(source.strip("[]")), parse_ip(host.strip("[]"))
    if from_ip is None:
        raise InvalidInput(f"{source!r} is not an address")
    if to_ip is None or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise InvalidInput(f"{destination!r} is not IP:PORT", "for example 10.96.0.10:53")
    if from_ip.version != to_ip.version:
        raise InvalidInput(f"{from_ip} and {to_ip} are of two families")
    return Packet(from_ip, to_ip, protocol, int(port), ifname)


def explained(config: ProxyConfig, source: Source, packet: Packet) -> tuple[Course, ...]:
    """Return every way that ``packet`` may go, the likelier first. Raises InvalidInput."""
    networks = [each for each in config.networks_of(source.node()) if each.family == packet.source.version]
    if not networks:
        raise InvalidInput(f"nothing is proxied for IPv{packet.source.version}", "give its --cluster-cidr")
    host = host_of(source.node())
    if config.mode is ProxyMode.NFTABLES:
        found = list(nft_courses(nft_rules_of(config, source, networks[0]), packet, host))
    else:
        found = list(courses(tables_of(config, source, networks[0]), packet, host))
    return tuple(sorted(found, key=lambda course: -course.chance))


def tables_of(config: ProxyConfig, source: Source, network: NodeNetwork) -> tuple[Table, ...]:
    """Return the rules of one family, for iptables."""
    return compile_iptables(_serving(config, source, network), network)


def nft_rules_of(config: ProxyConfig, source: Source, network: NodeNetwork) -> Ruleset:
    """Return the rules of one family, for nftables."""
    return compile_nft(_serving(config, source, network), network)


def _serving(config: ProxyConfig, source: Source, network: NodeNetwork) -> tuple[ServingPort, ...]:
    tracked = track(source.services().values(), source.slices().values(), track_rules(config, network))
    return serve(tracked.service_ports, locality_of(config, source.node()))


def host_of(node: Node | None) -> Host:
    """Return what a Node says of its own addresses."""
    entries = node.status.addresses if node else ()
    return Host(frozenset(ip for entry in entries if (ip := parse_ip(entry.address))))


def outcome_words(course: Course) -> str:
    """Return what becomes of it, in words."""
    if not isinstance(course.outcome, Arrives):
        return course.outcome.value
    to = course.outcome
    where = f"[{to.ip}]:{to.port}" if to.ip.version == 6 else f"{to.ip}:{to.port}"
    if not to.translated:
        return f"goes to {where} untouched"
    return f"goes to {where}, {'as the node' if to.masqueraded else 'with its own source address'}"


def deciding_step(course: Course) -> Step | None:
    """Return the rule that translated it or stopped it; None if there is none."""
    if isinstance(course.outcome, Arrives):
        return next((step for step in course.steps if step.translates), None)
    return next((step for step in reversed(course.steps) if step.stops), None)


def nft_text(rules: Ruleset) -> str:
    """Return a table as nft would list it, as far as nft has words for it."""
    lines = [f"table {'ip' if rules.family == 4 else 'ip6'} {TABLE} {{"]
    for name, shape in sorted(rules.sets.items()):
        lines.append(f"\t{'map' if shape.value or shape.verdicts else 'set'} {name} {{")
        lines += [
            f"\t\t{shape.element_text(key, value)}" for key, value in sorted(rules.contents(name).items())
        ]
        lines.append("\t}")
    for name, chain in sorted(rules.chains.items()):
        lines.append(f"\tchain {name} {{")
        lines += [f"\t\t{line}" for line in (chain.header(), *map(rule_text, chain.rules)) if line]
        lines.append("\t}")
    return "\n".join([*lines, "}"])
