"""What can be wrong, under codes that stay the same, for people and scripts. *Pure.*

A code names a broken invariant, not a symptom. ``component`` is who keeps the invariant, so whose log to read
first.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that can be wrong."""

    component: str  # cni, ipam, agent, proxy, dns, kernel, app, object, underlay
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, here and now."""

    code: str
    where: str  # node, pod or service
    evidence: str
    next_step: str = ""
    ifname: str = ""

    @property
    def component(self) -> str:
        return CATALOGUE[self.code].component

    @property
    def warning(self) -> bool:
        """Whether it may be meant so."""
        return self.code.startswith("W_")


CATALOGUE: Mapping[str, Kind] = {
    "E_POD_UNSEEN": Kind(
        "kubelet",
        "a node does not act on a pod that is its own",
        "The pod was given to a node whose kubelet has written no status of it: it does not run there, or "
        "does not reach the API server.",
    ),
    "E_UNDERLAY_DOWN": Kind(
        "underlay",
        "a node's cable is down",
        "The node's own interface, or the port of the network that it hangs on, is down.",
    ),
    "E_UNDERLAY_MTU": Kind(
        "underlay",
        "the network between the nodes takes smaller packets than they send",
        "A switch drops what is too large and tells nobody. Small requests pass, downloads hang. Lower the "
        "MTU of the nodes' interface, and the agent lowers that of pods.",
    ),
    "E_ENDPOINTS_BEHIND": Kind(
        "control plane",
        "ready pods match a Service, and no EndpointSlice names them",
        "The endpointslice controller does not run, or is far behind.",
    ),
    "W_FOREIGN_FILTER": Kind(
        "kernel",
        "a packet filter that is not of the cluster",
        "Somebody else's nftables table drops or translates packets on this node. That may be meant so; "
        "an accept elsewhere does not help against a drop here.",
    ),
    "E_POD_LINK_DOWN": Kind(
        "cni",
        "a pod's interface is down or missing",
        "The pod's end or the node's end of its cable (a veth pair) is missing or set down, so "
        "nothing gets in or out. CNI ADD makes both ends; a down interface also loses its routes.",
    ),
    "E_POD_NO_ROUTE": Kind(
        "cni",
        "a pod has no route to where it sends",
        "The pod's routing table has no entry for the destination, usually because the default "
        "route is missing. The sender is told at once: network is unreachable. CNI ADD writes that "
        "route.",
    ),
    "E_POD_ADDRESS": Kind(
        "cni",
        "a pod's address is not what it was given",
        "The address on the pod's interface, or its prefix length, differs from what the API "
        "server says. With a prefix that is too wide, the pod looks on its own link for pods that "
        "are elsewhere.",
    ),
    "E_POD_HOST_ROUTE": Kind(
        "cni",
        "a node does not know the way to its own pod",
        "The node lacks the route to the pod's address through the pod's interface, or the "
        "neighbour entry with the pod's MAC address. CNI ADD writes both.",
    ),
    "E_POD_GATEWAY": Kind(
        "cni",
        "a pod does not know its gateway's MAC address",
        "Pods have a permanent neighbour entry for their gateway; nobody answers ARP for it. "
        "Without the entry the pod's packets wait for an answer and are then given up "
        "(NEIGH_FAILED).",
    ),
    "E_POD_BRIDGE_PORT": Kind(
        "cni",
        "a pod's cable is no port of its node's bridge",
        "With bridge wiring the node's end of every pod's cable is a port of the bridge. One that is "
        "not reaches nobody; frames for the pod are flooded to the other pods, which throw them away "
        "(OTHERHOST).",
    ),
    "E_POD_PENDING": Kind(
        "cni",
        "a pod has a node and no address",
        "The kubelet says what it waits for. Mostly it is the network: the CNI plugin failed, its agent "
        "does not answer, or another configuration sorts first in the directory of CNI configurations.",
    ),
    "E_POD_UNSCHEDULED": Kind(
        "scheduler",
        "a pod has no node",
        "No scheduler has chosen a node: none runs, or no node fits. The pod's events say which.",
    ),
    "E_POD_GONE": Kind(
        "object",
        "no pod has the address",
        "The address belongs to a node's range, but no pod of that node has it: a stale endpoint, "
        "a stale DNS answer, or a connection that outlived its pod.",
    ),
    "E_DUPLICATE_IP": Kind(
        "ipam",
        "two pods have one address",
        "Packets go to whichever of the two the node's route names; the other's connections hang "
        "or are refused.",
    ),
    "E_IPAM_LEAK": Kind(
        "ipam",
        "an address is held by nobody",
        "An allocation record names a pod that does not exist. Enough of these, and the range is "
        "dry. 'kubenet ipam list' shows records; CNI GC and DEL free them.",
    ),
    "E_NODE_FORWARD_OFF": Kind(
        "agent",
        "a node does not forward packets",
        "net.ipv4.ip_forward is 0. A node is a router between its pods and the others; with "
        "forwarding off the kernel drops what is not for itself (IP_INADDRERRORS). The agent sets "
        "it at start.",
    ),
    "E_RP_FILTER": Kind(
        "kernel",
        "a packet came by an interface that the answer would not take",
        "Strict reverse path filtering (rp_filter=1) drops packets whose answers would leave by "
        "another interface. Usually a route is wrong on one side; look at the way back before "
        "touching the setting.",
    ),
    "E_ROUTE_MISSING": Kind(
        "agent",
        "a node has no route to another node's pods",
        "Each node has a route to every other node's pod range through the overlay. Without it "
        "packets to these pods leave by the default route or are refused (IP_INNOROUTES). The "
        "agent writes it from Node objects.",
    ),
    "E_ROUTE_WRONG": Kind(
        "agent",
        "a node sends another node's pods somewhere else",
        "The route to a pod range leads to another interface or gateway than the overlay's: two "
        "nodes with one range, a stale route, or somebody else's.",
    ),
    "E_POLICY_ROUTING": Kind(
        "kernel",
        "a rule sends packets to another routing table",
        "'ip rule' has an entry beside the usual three, so 'ip route' alone does not tell where "
        "packets go. Ask 'ip route get DST from SRC iif IF', which does.",
    ),
    "E_BLACKHOLE": Kind(
        "kernel",
        "a route stops packets",
        "A blackhole, prohibit or throw route in the main table ends packets on purpose. kubenet "
        "makes none but 'unreachable' for a node's own range.",
    ),
    "E_VXLAN_LINK": Kind(
        "agent",
        "a node's tunnel end is missing, down, or made otherwise",
        "The VXLAN device must be up, with the cluster's VNI and UDP port and the node's own "
        "address. The agent makes it.",
    ),
    "E_VXLAN_FDB": Kind(
        "agent",
        "a node does not know where a tunnel end is",
        "The forwarding table of the VXLAN device maps another node's tunnel MAC address to that "
        "node's IP. The device never learns: without the entry the packet is dropped "
        "(NO_TX_TARGET).",
    ),
    "E_VXLAN_NEIGH": Kind(
        "agent",
        "a node does not know another tunnel end's MAC address",
        "A permanent neighbour entry on the VXLAN device says which MAC address a remote range's "
        "gateway has. Nobody answers ARP there: without the entry packets wait three seconds and "
        "are given up (NEIGH_FAILED).",
    ),
    "E_VXLAN_MAC": Kind(
        "agent",
        "a frame arrived for another MAC address",
        "The sending node's neighbour entry has a stale MAC address of this tunnel end; the frame "
        "arrives and is thrown away (OTHERHOST).",
    ),
    "E_VXLAN_VNI": Kind(
        "agent",
        "two nodes use different VXLAN network identifiers",
        "The outer packet arrived, but no device here has its VNI (VXLAN_VNI_NOT_FOUND).",
    ),
    "E_VXLAN_PORT": Kind(
        "agent",
        "nobody listens on the tunnel's UDP port",
        "Nodes use different UDP ports for VXLAN (8472 is Linux's, 4789 is IANA's), or the "
        "receiving node has no VXLAN device. The outer packet ends with NO_SOCKET.",
    ),
    "E_UNDERLAY_DROP": Kind(
        "underlay",
        "something between the nodes drops packets",
        "The packet left one node and was lost before the other, or a filter there dropped it. "
        "Check UDP 8472 between nodes: a firewall or security group that lets ping through often "
        "stops it.",
    ),
    "E_UNDERLAY_LINK": Kind(
        "underlay",
        "a node's own interface is down or its port is",
        "Without it the node reaches nobody.",
    ),
    "E_MTU": Kind(
        "underlay",
        "packets are too large for a link on the way",
        "VXLAN adds 50 bytes. If pods' MTU is not 50 less than what every link between the nodes "
        "carries, large packets vanish while small ones pass; a veth that receives too much drops "
        "without a word.",
    ),
    "E_FORWARD_POLICY": Kind(
        "kernel",
        "forwarded packets are dropped by policy",
        "The FORWARD chain's policy is DROP (as container engines set it) and no rule accepted the "
        "packet. The agent keeps rules that accept pods' packets.",
    ),
    "E_FILTER_DROP": Kind(
        "kernel",
        "a rule drops the packet",
        "A netfilter rule matched and dropped or rejected it. The story names the rule, and whose "
        "it is if that can be told.",
    ),
    "E_CONNTRACK_FULL": Kind(
        "kernel",
        "the table of connections is full",
        "New connections are dropped while old ones live. See nf_conntrack_count and "
        "nf_conntrack_max, and what fills the table.",
    ),
    "E_CONNTRACK_STALE": Kind(
        "proxy",
        "a connection is still sent to an endpoint that is gone",
        "Connection tracking remembers a translation for as long as packets come. A UDP client "
        "with one source port keeps such an entry alive; the proxy forgets entries of endpoints "
        "that go.",
    ),
    "E_SERVICE_NO_ENDPOINTS": Kind(
        "object",
        "a Service has nobody behind it",
        "Its selector matches no ready pod. Connections are refused at once. Compare the selector "
        "with the pods' labels and look at the pods' readiness.",
    ),
    "E_SERVICE_STALE": Kind(
        "proxy",
        "a node's rules send a Service's packets elsewhere than its endpoints",
        "The node's rules and the EndpointSlices differ. If one node only: its proxy stopped syncing.",
    ),
    "E_SERVICE_MISSING": Kind(
        "proxy",
        "a node has no rules for a Service",
        "A Service with ready endpoints is not in the node's tables: its proxy does not run, does "
        "not reach the API server, or somebody flushed its rules.",
    ),
    "E_SERVICE_PORT": Kind(
        "object",
        "the Service has no such port",
        "Nothing translates packets to a cluster IP but at the ports that the Service names, so these "
        "leave the node for nowhere. Compare the port with 'kubectl describe service'.",
    ),
    "E_HAIRPIN": Kind(
        "proxy",
        "a pod that reaches itself through a Service is not masqueraded",
        "The packet comes back to the pod with the pod's own address as its source, which the "
        "kernel refuses (IP_LOCAL_SOURCE). The proxy masquerades such packets.",
    ),
    "E_MASQUERADE": Kind(
        "agent",
        "pods leave the cluster with their own address",
        "Nobody outside knows the way back to a pod's address. The agent keeps a rule that gives "
        "such packets the node's address.",
    ),
    "E_LOCAL_ONLY": Kind(
        "object",
        "the Service wants endpoints of this node, and there is none",
        "externalTrafficPolicy or internalTrafficPolicy is Local: packets to a node without an "
        "endpoint are dropped, by intent. Send them to a node that has one.",
    ),
    "E_NO_LISTENER": Kind(
        "app",
        "nobody listens on that port",
        "The packet reached its destination, whose kernel has no socket for it: the program is not "
        "running, listens on another port or only on 127.0.0.1, or targetPort is wrong.",
    ),
    "E_NO_ANSWER": Kind(
        "app",
        "the packet arrived and no answer was sent",
        "The destination received it and stayed silent: the program is busy or stopped, or its "
        "backlog is full.",
    ),
    "E_DNS_SERVER": Kind(
        "dns",
        "the cluster's DNS does not answer, or answers wrongly",
        "Pods ask the address in their resolv.conf. Look whether the kube-dns Service has "
        "endpoints and whether each of them answers for kubernetes.default.",
    ),
    "E_DNS_RECORD": Kind(
        "dns",
        "DNS tells other addresses than the Service has",
        "The server's view is stale: it watches no longer, or a cache in front holds old answers.",
    ),
    "E_DNS_RESOLV": Kind(
        "cni",
        "a pod asks another DNS server than the cluster's",
        "The pod's resolv.conf names an address that is not the cluster's DNS.",
    ),
    "E_NODE_NOT_READY": Kind(
        "agent",
        "a node is not ready",
        "Its own report says why; see 'kubectl describe node'.",
    ),
    "E_CIDR_OVERLAP": Kind(
        "ipam",
        "two nodes have overlapping pod ranges",
        "Each of the two believes the pods of the other to be its own and looks for them on its own links.",
    ),
    "E_UNREACHABLE": Kind(
        "kernel",
        "one pod does not reach another",
        "A packet was sent and nothing came back. 'kubenet trace' between the two shows where it ends.",
    ),
    "E_SERVICE_UNREACHABLE": Kind(
        "kernel",
        "a Service is not reached from a node",
        "A connection from a pod of that node to the Service's address came to nothing, though it has "
        "endpoints. 'kubenet trace' from that pod shows where it ends.",
    ),
    "E_DROPPED": Kind(
        "kernel",
        "the kernel gave the packet up",
        "The reason and the function are the kernel's own words; this table has no better ones for them.",
    ),
    "W_OUTSIDE": Kind(
        "underlay",
        "the destination is outside the lab",
        "A lab's wire joins its nodes and leads nowhere else. That the packet left with the node's "
        "address is all that can be seen of a way out.",
    ),
    "W_LOST": Kind(
        "kernel",
        "the packet was lost where it cannot be seen",
        "It was seen leaving one place and not arriving at the next.",
    ),
}


def catalogue_entry(code: str) -> Kind | None:
    """Return what a code means, however its case is."""
    return CATALOGUE.get(code.upper())
