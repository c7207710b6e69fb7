"""Which mode is best where nobody says: nftables where the kernel can do all that our table needs.

The kernel is asked by having it make such a table, of one service of each kind, in a network namespace that
nobody else sees and that goes with the question. A kernel may have nf_tables and lack an expression.
"""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from kubenet.errors import KubenetError, NotPermitted
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.model.nft_change import change_between
from proxy.backend import ProxyMode
from proxy.compile_nft import compile_nft
from proxy.nft_names import TABLE
from proxy.policy import Locality, serve
from proxy.ports import Balance, Endpoint, NodeNetwork, ServicePort, ServicePortName, TrafficPolicy

_SERVICE_CIDR = ip_network("198.51.100.0/24")  # RFC 5737: for examples


def best_mode() -> tuple[ProxyMode, str]:
    """Return the mode to use, and why where it is not nftables."""
    try:
        _try_nftables()
    except NotPermitted:
        return ProxyMode.NFTABLES, ""  # nobody may ask, and nobody may program either
    except (KubenetError, OSError) as error:
        return ProxyMode.IPTABLES, f"this kernel cannot do what the nftables mode needs: {error}"
    return ProxyMode.NFTABLES, ""


def _try_nftables() -> None:
    network = NodeNetwork(4, ip_network("192.0.2.0/24"), service_cidrs=(_SERVICE_CIDR,))
    with NetNs.unnamed() as netns:
        kernel = Nftables(netns, 4, TABLE)
        try:
            kernel.commit(change_between(None, compile_nft(serve(_one_of_each(), Locality("here")), network)))
        finally:
            kernel.close()


def _one_of_each() -> list[ServicePort]:
    """Return service ports that need, together, every expression there is."""
    plain = ServicePort(
        ServicePortName("probe", "plain"),
        ip_address("198.51.100.1"),
        80,
        endpoints=(Endpoint(ip_address("192.0.2.1"), 80), Endpoint(ip_address("192.0.2.2"), 80)),
    )
    turns = replace(
        plain,
        name=ServicePortName("probe", "turns"),
        cluster_ip=ip_address("198.51.100.2"),
        balance=Balance.ROUND_ROBIN,
        affinity_s=60,
    )
    outside = replace(
        plain,
        name=ServicePortName("probe", "outside"),
        cluster_ip=ip_address("198.51.100.3"),
        node_port=30000,
        external_policy=TrafficPolicy.LOCAL,
        load_balancer_ips=(ip_address("203.0.113.1"),),
        source_ranges=(ip_network("203.0.113.128/25"),),
    )
    empty = replace(
        plain, name=ServicePortName("probe", "x"), cluster_ip=ip_address("198.51.100.4"), endpoints=()
    )
    return [plain, turns, outside, empty]
