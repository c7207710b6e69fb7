"""What the controllers are told."""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Network

from kubenet.model.links import IPNetwork


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """One cluster."""

    pod_cidr: IPNetwork = IPv4Network("10.244.0.0/16")
    node_mask: int = 24  # the prefix length of each node's part of ``pod_cidr``
    ready: asyncio.Event | None = None  # set when the controllers have seen the cluster and act
