"""The transport protocols that Services speak. *Pure.*"""

from enum import Enum


class Protocol(Enum):
    """A transport protocol, by its name in the Kubernetes API."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"

    @property
    def lower(self) -> str:
        """The name as iptables, nft and conntrack spell it."""
        return self.value.lower()
