"""The addresses of Services and pods, by number."""

from ipaddress import IPv4Address

_FIRST_VIP, _FIRST_POD = int(IPv4Address("10.96.1.0")), int(IPv4Address("10.128.1.0"))


def vip(number: int) -> IPv4Address:
    """Return the cluster address of a Service."""
    return IPv4Address(_FIRST_VIP + number)


def pod(number: int) -> IPv4Address:
    """Return the address of a pod."""
    return IPv4Address(_FIRST_POD + number)
