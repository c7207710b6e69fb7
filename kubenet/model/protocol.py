"""The transport protocols that Services speak. *Pure.*"""

from enum import Enum


class Protocol(Enum):
    """A transport protocol, by its name in the Kubernetes API."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"

    # There is one object for each: telling them apart by that is much quicker than by name.
    __hash__ = object.__hash__

    @property
    def lower(self) -> str:
        """The name as iptables, nft and conntrack spell it."""
        return self.value.lower()
