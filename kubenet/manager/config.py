"""What the controllers are told."""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from kubenet.model.links import IPNetwork


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """One cluster."""

    pod_cidr: IPNetwork = IPv4Network("10.244.0.0/16")
    node_mask: int = 24  # the prefix length of each node's part of ``pod_cidr``
    pod_cidr_v6: IPv6Network | None = None  # with dual stack each node gets a part of both
    node_mask_v6: int = 64
    ready: asyncio.Event | None = None  # set when the controllers have seen the cluster and act

    @property
    def pod_ranges(self) -> tuple[tuple[IPNetwork, int], ...]:
        """The cluster's pod ranges, first family first, each with the prefix length of a node's part."""
        second = [(self.pod_cidr_v6, self.node_mask_v6)] if self.pod_cidr_v6 is not None else []
        return ((self.pod_cidr, self.node_mask), *second)
