"""Which cluster IPs and node ports are held. *Pure.*

A number is taken before the Service that asks for it is stored and freed when the store refuses it, so two
Services never share one, not even for a moment. Addresses are chosen above a band at the beginning of the
range; the band is left to those who ask for a particular address, as the cluster DNS does. It is used when
the rest is full, but never its first address (the API itself) and its tenth (the cluster DNS).

Source: Kubernetes documentation, "Service ClusterIP allocation" (band of min(max(16, size / 16), 256)
addresses) and "Service" (node ports 30000-32767, a band of 86).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from kubenet.apiserver.registry.services import EXTERNAL_TYPES, checks_health
from kubenet.apiserver.status import Cause, invalid
from kubenet.apiserver.tree import ensure_table, list_at, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue

API_OFFSET = 1
DNS_OFFSET = 10
NODE_PORTS = range(30000, 32768)
NODE_PORT_BAND = 86
PROVIDED_IS_TAKEN = "provided IP is already allocated"
NOT_AN_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


class Pool:
    """Numbers, each held or free."""

    def __init__(self, numbers: range, band: int, never: frozenset[int] = frozenset()) -> None:
        self._numbers = numbers
        self._never = never
        self._first_choice = numbers[band:]
        self._last_choice = numbers[:band]
        self._next = self._first_choice.start
        self._held: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def take(self, number: int) -> bool:
        """Take ``number``; return False if it is held already."""
        if number in self._held:
            return False
        self._held.add(number)
        return True

    def take_free(self) -> int | None:
        """Take the next free number, going round; None if all are held."""
        for number in self._candidates():
            if self.take(number):
                if number in self._first_choice:
                    self._next = number + 1
                return number
        return None

    def _candidates(self) -> Iterator[int]:
        yield from range(self._next, self._first_choice.stop)
        yield from range(self._first_choice.start, self._next)
        yield from (number for number in self._last_choice if number not in self._never)

    def hold(self, numbers: Iterable[int]) -> None:
        self._held.update(numbers)

    def free(self, numbers: Iterable[int]) -> None:
        self._held.difference_update(numbers)


@dataclass(frozen=True, slots=True)
class Claims:
    """Some cluster IPs (as numbers) and some node ports."""

    addresses: frozenset[int] = frozenset()
    node_ports: frozenset[int] = frozenset()

    def __sub__(self, other: "Claims") -> "Claims":
        return Claims(self.addresses - other.addresses, self.node_ports - other.node_ports)


NO_CLAIMS = Claims()


def claims_of(service: Json) -> Claims:
    """Return what a stored Service holds."""
    texts = list_at(service, "spec", "clusterIPs") or [text_at(service, "spec", "clusterIP")]
    addresses = (_parsed(str(text)) for text in texts)
    ports = [port.get("nodePort") for port in tables_at(service, "spec", "ports")]
    ports.append(table_at(service, "spec").get("healthCheckNodePort"))
    return Claims(
        frozenset(int(address) for address in addresses if address),
        frozenset(port for port in ports if isinstance(port, int) and port),
    )


def _parsed(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None


@dataclass(slots=True)
class Assignment:
    """What was taken for one write of one Service, and what is wrong with what it asks for."""

    addresses: list[int] = field(default_factory=list)
    node_ports: list[int] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)

    @property
    def taken(self) -> Claims:
        return Claims(frozenset(self.addresses), frozenset(self.node_ports))


class ServiceAddresses:
    """Allocates cluster IPs and node ports for Services."""

    def __init__(self, cidr: IPv4Network) -> None:
        first = int(cidr.network_address)
        self.cidr = cidr
        numbers = range(first + 1, int(cidr.broadcast_address))
        band = min(max(16, cidr.num_addresses // 16), 256, max(0, len(numbers) - 1))
        self._addresses = Pool(numbers, band, frozenset((first + API_OFFSET, first + DNS_OFFSET)))
        self._node_ports = Pool(NODE_PORTS, NODE_PORT_BAND)

    @property
    def api_address(self) -> IPv4Address:
        """The address of the ``kubernetes`` Service."""
        return self.cidr.network_address + API_OFFSET

    def hold(self, claims: Claims) -> None:
        """Note that a stored Service has these."""
        self._addresses.hold(claims.addresses)
        self._node_ports.hold(claims.node_ports)

    def free(self, claims: Claims) -> None:
        """Note that nobody has these any more."""
        self._addresses.free(claims.addresses)
        self._node_ports.free(claims.node_ports)

    def assign(self, service: Json, held: Claims = NO_CLAIMS) -> Assignment:
        """Fill the addresses and node ports that a Service left out, take those that it asks for.

        ``held`` is what its stored state has already. Whatever the assignment took stays taken until it is
        freed.
        """
        assignment, spec = Assignment(), ensure_table(service, "spec")
        if text_at(spec, "type") == "ExternalName":
            for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(key, None)
            return assignment
        self._assign_address(spec, held, assignment)
        if text_at(spec, "type") in EXTERNAL_TYPES:
            self._assign_node_ports(spec, held, assignment)
        if checks_health(spec):
            self._assign_health_port(spec, held, assignment)
        return assignment

    def _assign_address(self, spec: Json, held: Claims, assignment: Assignment) -> None:
        asked = text_at(spec, "clusterIP") or next(iter(list_at(spec, "clusterIPs")), "")
        address = self._address(str(asked), held, assignment)
        if not address:
            return
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _address(self, asked: str, held: Claims, assignment: Assignment) -> str:
        """Return the address to use, or an empty string with a cause noted."""
        if asked == "None":
            return asked
        if asked:
            address = _parsed(asked)
            if address is not None and int(address) in held.addresses:
                return asked
            if trouble := self._refusal(asked, address):
                assignment.causes.append(trouble)
                return ""
            assignment.addresses.extend([int(address)] if address else [])
            return asked
        number = self._addresses.take_free()
        if number is None:
            detail = f"failed to allocate a serviceIP: range is full ({self.cidr})"
            assignment.causes.append(invalid("spec.clusterIPs", [], detail))
            return ""
        assignment.addresses.append(number)
        return str(IPv4Address(number))

    def _refusal(self, asked: str, address: IPv4Address | None) -> Cause | None:
        """Take the address that is asked for, or return why it cannot be had."""
        shown: list[JsonValue] = [asked]
        if address is None:
            return invalid("spec.clusterIPs[0]", asked, NOT_AN_ADDRESS)
        if int(address) not in self._addresses:
            detail = (
                f"failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range."
                f" The range of valid IPs is {self.cidr}"
            )
            return invalid("spec.clusterIPs", shown, detail)
        if not self._addresses.take(int(address)):
            return invalid("spec.clusterIPs", shown, f"failed to allocate IP {asked}: {PROVIDED_IS_TAKEN}")
        return None

    def _assign_node_ports(self, spec: Json, held: Claims, assignment: Assignment) -> None:
        chosen: dict[JsonValue, int] = {}  # TCP and UDP of one port number share their node port
        for index, port in enumerate(tables_at(spec, "ports")):
            field_name, number = f"spec.ports[{index}].nodePort", port.get("port")
            asked = port.get("nodePort") or chosen.get(str(number))
            node_port: int | None
            if isinstance(asked, int):
                node_port = asked
                if asked not in held.node_ports and asked not in chosen.values():
                    self._take_node_port(asked, field_name, assignment)
            else:
                node_port = self._free_node_port(field_name, assignment)
                if node_port is None:
                    return
            port["nodePort"] = chosen[str(number)] = node_port

    def _assign_health_port(self, spec: Json, held: Claims, assignment: Assignment) -> None:
        field_name, asked = "spec.healthCheckNodePort", spec.get("healthCheckNodePort")
        if not asked or not isinstance(asked, int):
            spec["healthCheckNodePort"] = self._free_node_port(field_name, assignment) or 0
        elif asked not in held.node_ports:
            self._take_node_port(asked, field_name, assignment)

    def _free_node_port(self, field_name: str, assignment: Assignment) -> int | None:
        """Take a free port, or note that there is none."""
        node_port = self._node_ports.take_free()
        if node_port is None:
            assignment.causes.append(invalid(field_name, 0, "failed to allocate a nodePort: range is full"))
        else:
            assignment.node_ports.append(node_port)
        return node_port

    def _take_node_port(self, asked: int, field_name: str, assignment: Assignment) -> None:
        if asked not in self._node_ports:
            valid = f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
            detail = f"provided port is not in the valid range. The range of valid ports is {valid}"
            assignment.causes.append(invalid(field_name, asked, detail))
        elif not self._node_ports.take(asked):
            assignment.causes.append(invalid(field_name, asked, "provided port is already allocated"))
        else:
            assignment.node_ports.append(asked)
