"""What a runtime is answered, in the form of the version that it asked in. *Pure.*

Source: CNI specification 1.1.0, section 5; 0.3.1, 0.4.0 and 1.0.0 for the older forms.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import TypeAlias

import msgspec

from cni.spec import LATEST, NO_DNS, VERSIONS, AssignedRoute, CniError, Dns
from kubenet.model.links import IPAddress, IPInterface, MacAddress

Fields: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Interface:
    """A link that an attachment made. ``sandbox`` is the path of its namespace, empty on the host."""

    name: str
    mac: MacAddress
    mtu: int = 0
    sandbox: str = ""


@dataclass(frozen=True, slots=True)
class AssignedAddress:
    """An address, and which of the interfaces has it; None in the answer of a mere address manager."""

    interface: IPInterface
    gateway: IPAddress | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What an ADD has made."""

    interfaces: tuple[Interface, ...] = ()
    addresses: tuple[AssignedAddress, ...] = ()
    routes: tuple[AssignedRoute, ...] = ()
    dns: Dns = NO_DNS


def render_result(result: Result, version: str, prev_result: Mapping[str, object] | None = None) -> bytes:
    """Return the answer to an ADD, in the form of ``version``, one line.

    What an earlier plugin of a chain has made stays as it is, also what we do not understand; ours comes
    behind it.
    """
    before = dict(prev_result or {})
    earlier = _list_in(before, "interfaces")
    fields: Fields = {**before, "cniVersion": version}
    if earlier or result.interfaces:
        fields["interfaces"] = [*earlier, *(_interface(entry, version) for entry in result.interfaces)]
    addresses = [_address(entry, version, len(earlier)) for entry in result.addresses]
    fields["ips"] = [*_list_in(before, "ips"), *addresses]
    if routes := [*_list_in(before, "routes"), *(_route(entry, version) for entry in result.routes)]:
        fields["routes"] = routes
    if result.dns != NO_DNS:
        fields["dns"] = _dns(result.dns)
    elif not _since("1.1.0", version):
        fields.setdefault("dns", {})
    return msgspec.json.encode(fields) + b"\n"


def render_error(error: CniError, version: str) -> bytes:
    """Return the answer of a request that failed, one line."""
    fields = {"cniVersion": version, "code": int(error.code), "msg": str(error), "details": error.details}
    return msgspec.json.encode(fields) + b"\n"


def render_versions(version: str) -> bytes:
    """Return the answer to VERSION; what cannot be a version is not repeated."""
    plain = 0 < len(version) <= 16 and all(c in "0123456789." for c in version)
    fields = {"cniVersion": version if plain else LATEST, "supportedVersions": VERSIONS}
    return msgspec.json.encode(fields) + b"\n"


def interface_in(prev_result: Mapping[str, object], name: str, sandbox: str) -> Interface | None:
    """Return what an earlier result says of a pod's interface; None when it does not speak of it."""
    for entry in _list_in(prev_result, "interfaces"):
        if isinstance(entry, dict) and (entry.get("name"), entry.get("sandbox")) == (name, sandbox):
            mac, mtu = entry.get("mac"), entry.get("mtu")
            return Interface(
                name,
                mac.lower() if isinstance(mac, str) else "",
                mtu if isinstance(mtu, int) else 0,
                sandbox,
            )
    return None


def addresses_in(prev_result: Mapping[str, object]) -> set[IPAddress]:
    """Return the addresses of an earlier result."""
    told = (entry.get("address") for entry in _list_in(prev_result, "ips") if isinstance(entry, dict))
    found = set()
    for text in told:
        with suppress(ValueError):
            found.add(ip_interface(text).ip if isinstance(text, str) else None)
    return {address for address in found if address is not None}


def _since(first: str, version: str) -> bool:
    return VERSIONS.index(version) >= VERSIONS.index(first)


def _interface(interface: Interface, version: str) -> Fields:
    fields: Fields = {"name": interface.name, "mac": interface.mac}
    if interface.mtu and _since("1.1.0", version):
        fields["mtu"] = interface.mtu
    if interface.sandbox:
        fields["sandbox"] = interface.sandbox
    return fields


def _address(address: AssignedAddress, version: str, shift: int) -> Fields:
    fields: Fields = {} if _since("1.0.0", version) else {"version": str(address.interface.version)}
    if address.index is not None:
        fields["interface"] = address.index + shift
    fields["address"] = str(address.interface)
    if address.gateway is not None:
        fields["gateway"] = str(address.gateway)
    return fields


def _route(route: AssignedRoute, version: str) -> Fields:
    fields: Fields = {"dst": str(route.destination)}
    if route.gateway is not None:
        fields["gw"] = str(route.gateway)
    if route.mtu and _since("1.1.0", version):
        fields["mtu"] = route.mtu
    return fields


def _dns(dns: Dns) -> Fields:
    written = {"nameservers": dns.servers, "search": dns.searches, "options": dns.options}
    return {key: list(value) for key, value in written.items() if value}


def _list_in(fields: Mapping[str, object], key: str) -> list[object]:
    value = fields.get(key)
    return list(value) if isinstance(value, list) else []
