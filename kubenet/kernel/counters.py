"""What passed through the devices of a namespace. Source: proc_net(5), /proc/net/dev."""

from dataclasses import dataclass
from pathlib import Path

from kubenet.kernel.netns import NetNs

# The file shows the namespace of the thread that opens it.
_DEVICES = Path("/proc/thread-self/net/dev")


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """Packets since the device was made."""

    rx_packets: int
    tx_packets: int


def link_counters(netns: NetNs) -> dict[str, LinkCounters]:
    """Return the counters of every device, by ifname."""
    with netns.entered():
        lines = _DEVICES.read_text().splitlines()[2:]  # two lines of head
    counters = {}
    for line in lines:
        ifname, _, numbers = line.partition(":")
        fields = numbers.split()
        counters[ifname.strip()] = LinkCounters(rx_packets=int(fields[1]), tx_packets=int(fields[9]))
    return counters
