"""What nodes tell each other of their tunnel ends, in the annotations that flannel uses. *Pure.*

A node that runs flannel and one that runs kubenet so reach each other: both make the same three entries of
what the other tells. Ours tell what others could compute, for the sake of those that cannot.

Source: flannel, "Kubernetes subnet manager" and "Annotations" of its documentation.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from kubenet.errors import Malformed
from kubenet.model.links import IPAddress, MacAddress

PREFIX = "flannel.alpha.coreos.com/"
PUBLIC_IP = PREFIX + "public-ip"
PUBLIC_IP_OVERWRITE = PREFIX + "public-ip-overwrite"
BACKEND_TYPE = PREFIX + "backend-type"
BACKEND_DATA = PREFIX + "backend-data"
MANAGED = PREFIX + "kube-subnet-manager"

VXLAN = "vxlan"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Told:
    """What a node tells of its tunnel end; empty where it tells nothing."""

    public_ip: str = ""
    vtep_mac: MacAddress = ""


class _Backend(msgspec.Struct, frozen=True):
    vni: int = msgspec.field(name="VNI", default=1)
    vtep_mac: str = msgspec.field(name="VtepMAC", default="")


def told_by(annotations: Mapping[str, str], vni: int) -> Told:
    """Return what ``annotations`` tell to a node whose tunnel has the number ``vni``.

    Raises Malformed when they tell of a tunnel that we cannot reach, or make no sense.
    """
    kind = annotations.get(BACKEND_TYPE, "")
    if not kind:
        return Told()
    if kind != VXLAN:
        raise Malformed(f"its annotations say that it is reached by {kind!r}, not by {VXLAN}")
    raw = annotations.get(BACKEND_DATA) or "{}"
    try:
        backend = msgspec.json.decode(raw, type=_Backend)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Malformed(f"its annotation {BACKEND_DATA} makes no sense: {error}") from error
    mac = backend.vtep_mac.lower()
    if mac and (not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1):
        raise Malformed(
            f"its annotation {BACKEND_DATA} makes no sense: {mac!r} is no MAC address of a device"
        )
    if backend.vni != vni:
        raise Malformed(f"its tunnel has the number {backend.vni}, ours is {vni}")
    return Told(annotations.get(PUBLIC_IP_OVERWRITE) or annotations.get(PUBLIC_IP, ""), mac)


def annotations_of(public_ip: IPAddress, vtep_mac: MacAddress, vni: int) -> dict[str, str]:
    """Return what we tell of our own tunnel end."""
    backend = {"VNI": vni, "VtepMAC": vtep_mac}
    return {
        PUBLIC_IP: str(public_ip),
        BACKEND_TYPE: VXLAN,
        BACKEND_DATA: msgspec.json.encode(backend).decode(),
        MANAGED: "true",
    }
