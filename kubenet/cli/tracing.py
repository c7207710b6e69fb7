"""What the tracing commands share."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kubenet.errors import InvalidInput

if TYPE_CHECKING:
    from kubenet.observe.names import Cluster
    from kubenet.observe.probe import Target
    from kubenet.observe.trace import Told


def target_of(text: str, proto: str | None, server: str, cluster: "Cluster") -> "Target":
    """Return what to send where. Raises NotFound, InvalidInput."""
    from kubenet.observe.probe import Target, dns_query
    from kubenet.observe.target import destination, dns_server

    if proto == "dns":
        to = dns_server(server, cluster)
        return Target(to.protocol, to.ip, to.port, dns_query(text))
    if server:
        raise InvalidInput("--server is for --proto dns only")
    to = destination(text, proto or "", cluster)
    return Target(to.protocol, to.ip, to.port)


def follow_up(follow: bool) -> Iterator[None]:
    """Yield once, or once a second for ever."""
    yield
    while follow:
        time.sleep(1.0)
        yield


def write_packets(path: Path, told: "Told") -> None:
    """Write every packet at every interface, with the rules that it met as its comment."""
    from kubenet.observe.pcapng import Captured, pcapng
    from kubenet.observe.story import rule_words

    packets = [
        Captured(
            hop.time_ns,
            f"{hop.place}/{hop.ifname}",
            hop.raw,
            len(hop.raw),
            hop.sent,
            rule_words(told.seen, hop, told.background) if not hop.sent else "",
        )
        for hop in sorted(told.seen.hops, key=lambda hop: hop.time_ns)
    ]
    packets += [
        Captured(
            drop.time_ns,
            f"{drop.place}/{drop.ifname or 'lost'}",
            drop.raw,
            len(drop.raw),
            False,
            f"DROPPED: {drop.reason} {drop.function}",
        )
        for drop in told.seen.drops
    ]
    try:
        path.write_bytes(b"".join(pcapng(packets)))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error
