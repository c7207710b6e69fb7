"""Faults of links, routes, neighbours, the tunnel and kernel settings. *Pure.*"""

import re

from kubenet.errors import InvalidInput
from labs.faults.steps import Cause, Fault, Run, Step, Sysctl


class RouteGone(Fault, tag="route-gone", frozen=True):
    """A route is missing."""

    at: str
    dst: str

    def before(self) -> tuple[Step, ...]:
        return (ip(self.at, "route", "show", "exact", self.dst),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "route", "del", self.dst)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "route", "replace", *line.split()) for line in saved[0].splitlines()]

    def cause(self) -> Cause:
        return Cause(ip(self.at, "route", "show", "exact", self.dst), r"\S", unless=True)


class RouteWrong(Fault, tag="route-wrong", frozen=True):
    """A route leads elsewhere. ``route`` is what follows the destination: ``dev eth0``, or only a type
    (``blackhole``).
    """

    at: str
    dst: str
    route: str

    def before(self) -> tuple[Step, ...]:
        return (ip(self.at, "route", "show", "exact", self.dst),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        words = self.route.split()
        typed = len(words) == 1
        new = (*words, self.dst) if typed else (self.dst, *words)
        return [*self._remove(saved), ip(self.at, "route", "add", *new)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        back = [ip(self.at, "route", "replace", *line.split()) for line in saved[0].splitlines()]
        return [ip(self.at, "route", "flush", "exact", self.dst), *back]

    def cause(self) -> Cause:
        words = self.route.split()
        pattern = rf"^{words[0]} " if len(words) == 1 else re.escape(" ".join(words))
        return Cause(ip(self.at, "route", "show", "exact", self.dst), pattern)

    def _remove(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "route", "flush", "exact", self.dst)] if saved[0] else []


class PolicyRoute(Fault, tag="policy-route", frozen=True):
    """A routing rule sends one source to a table of its own, which swallows everything."""

    at: str
    source: str
    table: int

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        table = str(self.table)
        return [
            ip(self.at, "route", "add", "blackhole", "default", "table", table),
            ip(self.at, "rule", "add", "from", self.source, "lookup", table),
        ]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        table = str(self.table)
        return [
            ip(self.at, "rule", "del", "from", self.source, "lookup", table, may_fail=True),
            ip(self.at, "route", "flush", "table", table, may_fail=True),
        ]

    def cause(self) -> Cause:
        return Cause(ip(self.at, "rule", "show"), rf"from {re.escape(self.source)} lookup {self.table}\b")


class LinkDown(Fault, tag="link-down", frozen=True):
    """An interface is down, and with it the routes and neighbours behind it are gone."""

    at: str
    ifname: str

    def before(self) -> tuple[Step, ...]:
        return (
            ip(self.at, "route", "show", "dev", self.ifname),
            ip(self.at, "neighbour", "show", "dev", self.ifname, "nud", "permanent"),
        )

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "link", "set", self.ifname, "down")]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        routes, neighbours = saved
        steps: list[Step] = [ip(self.at, "link", "set", self.ifname, "up")]
        for address, lladdr in re.findall(r"(\S+) lladdr (\S+)", neighbours):
            steps.append(_permanent(self.at, self.ifname, address, lladdr))
        # Routes without a gateway first: the others need them.
        for line in sorted(routes.splitlines(), key=lambda line: "via" in line):
            steps.append(ip(self.at, "route", "replace", *line.split(), "dev", self.ifname))
        return steps

    def cause(self) -> Cause:
        return Cause(ip(self.at, "link", "show", "dev", self.ifname), r"<[^>]*\bUP\b[^>]*>", unless=True)


class AddressExtra(Fault, tag="address-extra", frozen=True):
    """An interface has an address that is not its own."""

    at: str
    ifname: str
    address: str

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "address", "add", self.address, "dev", self.ifname)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "address", "del", self.address, "dev", self.ifname, may_fail=True)]

    def cause(self) -> Cause:
        return Cause(
            ip(self.at, "address", "show", "dev", self.ifname), rf"inet {re.escape(self.address)}[ /]"
        )


class LinkMtu(Fault, tag="mtu", frozen=True):
    """An interface carries frames of another size."""

    at: str
    ifname: str
    mtu: int

    def before(self) -> tuple[Step, ...]:
        return (ip(self.at, "link", "show", "dev", self.ifname),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "link", "set", self.ifname, "mtu", str(self.mtu))]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "link", "set", self.ifname, "mtu", _found(r"mtu (\d+)", saved[0]))]

    def cause(self) -> Cause:
        return Cause(ip(self.at, "link", "show", "dev", self.ifname), rf"mtu {self.mtu} ")


class NeighbourGone(Fault, tag="neighbour-gone", frozen=True):
    """A permanent neighbour entry is missing."""

    at: str
    ifname: str
    address: str

    def before(self) -> tuple[Step, ...]:
        return (ip(self.at, "neighbour", "show", self.address, "dev", self.ifname),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [ip(self.at, "neighbour", "del", self.address, "dev", self.ifname)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [_permanent(self.at, self.ifname, self.address, _found(r"lladdr (\S+)", saved[0]))]

    def cause(self) -> Cause:
        ask = ip(self.at, "neighbour", "show", self.address, "dev", self.ifname)
        return Cause(ask, "PERMANENT|NOARP", unless=True)


class NeighbourWrong(Fault, tag="neighbour-wrong", frozen=True):
    """A permanent neighbour entry names a link-layer address that nobody has."""

    at: str
    ifname: str
    address: str
    lladdr: str

    def before(self) -> tuple[Step, ...]:
        return (ip(self.at, "neighbour", "show", self.address, "dev", self.ifname),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [_permanent(self.at, self.ifname, self.address, self.lladdr)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [_permanent(self.at, self.ifname, self.address, _found(r"lladdr (\S+)", saved[0]))]

    def cause(self) -> Cause:
        ask = ip(self.at, "neighbour", "show", self.address, "dev", self.ifname)
        return Cause(ask, re.escape(self.lladdr))


class FdbGone(Fault, tag="fdb-gone", frozen=True):
    """The forwarding database of a tunnel has no entry for one peer."""

    at: str
    ifname: str
    peer: str

    def before(self) -> tuple[Step, ...]:
        return (Run(self.at, ("bridge", "fdb", "show", "dev", self.ifname)),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [
            Run(self.at, ("bridge", "fdb", "del", self._mac(saved), "dev", self.ifname, "dst", self.peer))
        ]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        mac = self._mac(saved)
        return [Run(self.at, ("bridge", "fdb", "replace", mac, "dev", self.ifname, "dst", self.peer))]

    def cause(self) -> Cause:
        ask = Run(self.at, ("bridge", "fdb", "show", "dev", self.ifname))
        return Cause(ask, rf"dst {re.escape(self.peer)}\b", unless=True)

    def _mac(self, saved: tuple[str, ...]) -> str:
        return _found(rf"(\S+) dst {re.escape(self.peer)}\b", saved[0])


class TunnelWrong(Fault, tag="tunnel-wrong", frozen=True):
    """The tunnel of a node speaks another VNI or another port; all else of it is as it was."""

    at: str
    ifname: str
    vni: int
    port: int

    def before(self) -> tuple[Step, ...]:
        return (
            ip(self.at, "-d", "link", "show", "dev", self.ifname),
            ip(self.at, "-4", "address", "show", "dev", self.ifname),
            ip(self.at, "route", "show", "dev", self.ifname),
            ip(self.at, "neighbour", "show", "dev", self.ifname),
            Run(self.at, ("bridge", "fdb", "show", "dev", self.ifname)),
        )

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return self._rebuild(saved, str(self.vni), str(self.port))

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return self._rebuild(saved, _found(r"vxlan id (\d+)", saved[0]), _found(r"dstport (\d+)", saved[0]))

    def cause(self) -> Cause:
        ask = ip(self.at, "-d", "link", "show", "dev", self.ifname)
        return Cause(ask, rf"vxlan id {self.vni} .*dstport {self.port}\b")

    def _rebuild(self, saved: tuple[str, ...], vni: str, port: str) -> list[Step]:
        link, addresses, routes, neighbours, fdb = saved
        at, ifname = self.at, self.ifname
        made = ip(
            at, "link", "add", ifname, "address", _found(r"link/ether (\S+)", link), "mtu",
            _found(r"mtu (\d+)", link), "type", "vxlan", "id", vni, "local", _found(r"local (\S+)", link),
            "dev", _found(r"local \S+ dev (\S+)", link), "dstport", port, "nolearning",
        )  # fmt: skip
        steps: list[Step] = [ip(at, "link", "del", ifname), made]
        steps += [
            ip(at, "address", "add", found, "dev", ifname) for found in re.findall(r"inet (\S+)", addresses)
        ]
        steps.append(ip(at, "link", "set", ifname, "up"))
        steps += [ip(at, "route", "replace", *line.split(), "dev", ifname) for line in routes.splitlines()]
        for address, mac in re.findall(r"(\S+) lladdr (\S+)", neighbours):
            steps.append(_permanent(at, ifname, address, mac))
        for mac, peer in re.findall(r"(\S+) dst (\S+)", fdb):
            steps.append(Run(at, ("bridge", "fdb", "append", mac, "dev", ifname, "dst", peer)))
        return steps


class Setting(Fault, tag="sysctl", frozen=True):
    """A kernel setting is wrong. A ``harmless`` one only lets another fault show."""

    at: str
    key: str
    value: str
    harmless: bool = False

    def before(self) -> tuple[Step, ...]:
        return (Sysctl(self.at, self.key),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [Sysctl(self.at, self.key, self.value)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [Sysctl(self.at, self.key, saved[0].strip())]

    def cause(self) -> Cause | None:
        return None if self.harmless else Cause(Sysctl(self.at, self.key), rf"^{re.escape(self.value)}\s*$")


def ip(place: str, *words: str, may_fail: bool = False) -> Run:
    return Run(place, ("ip", *words), may_fail=may_fail)


def _permanent(at: str, ifname: str, address: str, lladdr: str) -> Run:
    return ip(at, "neighbour", "replace", address, "lladdr", lladdr, "dev", ifname, "nud", "permanent")


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise InvalidInput(f"the lab is not as the exercise needs it: no {pattern!r} in {text!r}")
    return match.group(1)
