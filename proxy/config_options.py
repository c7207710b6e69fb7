"""Everything that can be said, in a table: its field, its flag, how it is read, and what it sets. *Pure.*

Source: Kubernetes kubeproxy.config.k8s.io/v1alpha1; kube-proxy's command line reference.
"""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.config_values import (
    Value,
    one_of,
    read_address,
    read_anything,
    read_balance,
    read_bit,
    read_bool,
    read_duration_s,
    read_gates,
    read_mode,
    read_networks,
    read_node_name,
    read_node_port_addresses,
    read_number,
    read_text,
)


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be said. ``attribute`` is empty for what has no effect here."""

    path: str  # in the file; empty: only a flag
    flag: str  # empty: only in the file
    read: Callable[[Value], object]
    attribute: str = ""
    help: str = ""
    # Whether 0 in a file means something: the others are plain fields in Go, where 0 is "not said".
    zero_counts: bool = False


def _backend(section: str) -> tuple[Option, ...]:
    """Return what both backends have a section for; the flags are those of iptables, as in kube-proxy."""
    flags = section == "iptables"
    bit, every, period, shortest = (
        ("iptables-masquerade-bit", "masquerade-all", "iptables-sync-period", "iptables-min-sync-period")
        if flags
        else ("", "", "", "")
    )
    return (
        Option(
            f"{section}.masqueradeBit",
            bit,
            read_bit,
            "masquerade_bit",
            "Which bit of the packet mark says: masquerade.",
            zero_counts=True,
        ),
        Option(
            f"{section}.masqueradeAll",
            every,
            read_bool,
            "masquerade_all",
            "Give all traffic to cluster addresses the node's own source address.",
        ),
        Option(
            f"{section}.syncPeriod",
            period,
            read_duration_s,
            "sync_period_s",
            "How often to see whether the rules are still in place.",
        ),
        Option(
            f"{section}.minSyncPeriod",
            shortest,
            read_duration_s,
            "min_sync_period_s",
            "The least time from the end of one sync to the start of the next.",
        ),
    )


def _idle(path: str, flag: str = "") -> Option:
    return Option(path, flag, read_anything)


_CONNTRACK = (
    Option(
        "conntrack.maxPerCore",
        "conntrack-max-per-core",
        read_number,
        "conntrack_max_per_core",
        "Connections to track, for each core; 0: leave it.",
        zero_counts=True,
    ),
    Option(
        "conntrack.min",
        "conntrack-min",
        read_number,
        "conntrack_min",
        "Connections to track at least.",
        zero_counts=True,
    ),
    Option(
        "conntrack.tcpBeLiberal",
        "conntrack-tcp-be-liberal",
        read_bool,
        "tcp_liberal",
        "Do not call out-of-window segments invalid.",
    ),
    Option(
        "conntrack.tcpEstablishedTimeout",
        "conntrack-tcp-timeout-established",
        read_duration_s,
        "tcp_established_s",
        "How long an idle TCP connection is remembered; 0: leave it.",
        zero_counts=True,
    ),
    Option(
        "conntrack.tcpCloseWaitTimeout",
        "conntrack-tcp-timeout-close-wait",
        read_duration_s,
        "tcp_close_wait_s",
        "The same for one in CLOSE_WAIT.",
        zero_counts=True,
    ),
    Option(
        "conntrack.udpTimeout",
        "conntrack-udp-timeout",
        read_duration_s,
        "udp_timeout_s",
        "The same for UDP without an answer.",
    ),
    Option(
        "conntrack.udpStreamTimeout",
        "conntrack-udp-timeout-stream",
        read_duration_s,
        "udp_stream_timeout_s",
        "The same for UDP with answers.",
    ),
)

_OUR_OWN = (
    Option("", "service-cidrs", read_networks, "service_cidrs", "The networks of cluster addresses."),
    Option(
        "",
        "allow-external-ips",
        read_networks,
        "external_ips",
        "Networks that Services' externalIPs may lie in; none by default.",
    ),
    Option(
        "", "allow-load-balancer-ips", read_networks, "load_balancer_ips", "The same for load balancers; all."
    ),
    Option(
        "",
        "connection-metrics",
        read_bool,
        "count_connections",
        "Count connections by Service and endpoint, for /metrics; nftables mode only.",
    ),
    Option(
        "",
        "balance",
        read_balance,
        "balance",
        "random, round-robin or consistent-hash, for Services that do not say.",
    ),
)

_IDLE = (
    *map(_idle, ("apiVersion", "kind", "ipvs", "winkernel", "windowsRunAsService", "udpIdleTimeout")),
    _idle("portRange", "proxy-port-range"),
    _idle("bindAddressHardFail", "bind-address-hard-fail"),
    _idle("clientConnection.acceptContentTypes"),
    _idle("clientConnection.contentType", "kube-api-content-type"),
    _idle("clientConnection.qps", "kube-api-qps"),
    _idle("clientConnection.burst", "kube-api-burst"),
    _idle("configSyncPeriod", "config-sync-period"),
    _idle("enableProfiling", "profiling"),
    _idle("showHiddenMetricsForVersion", "show-hidden-metrics-for-version"),
    _idle("oomScoreAdj", "oom-score-adj"),
    _idle("iptables.snatNodeInternalIP"),
    *(
        _idle("", f"ipvs-{name}")
        for name in (
            *("exclude-cidrs", "min-sync-period", "scheduler", "strict-arp"),
            *("sync-period", "tcp-timeout", "tcpfin-timeout", "udp-timeout"),
        )
    ),
    *(
        _idle("", name)
        for name in (
            *("log-flush-frequency", "log-json-info-buffer-size", "log-json-split-stream"),
            *("log-text-info-buffer-size", "log-text-split-stream", "logging-format", "vmodule"),
        )
    ),
)

OPTIONS: tuple[Option, ...] = (
    Option("clientConnection.kubeconfig", "kubeconfig", read_text, "kubeconfig", "Where the API server is."),
    Option("", "master", read_text, "master", "The API server's URL; wins over the kubeconfig's."),
    Option(
        "hostnameOverride",
        "hostname-override",
        read_node_name,
        "hostname_override",
        "The name of our Node; the host's own name if not said.",
    ),
    Option("mode", "proxy-mode", read_mode, "mode", "iptables or nftables; the better one by default."),
    Option("clusterCIDR", "cluster-cidr", read_networks, "cluster_cidrs", "The networks of pods: v4, v6."),
    Option(
        "detectLocalMode",
        "detect-local-mode",
        one_of("", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"),
        "detect_local_mode",
        "How to tell pods from others: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.",
    ),
    Option(
        "detectLocal.bridgeInterface",
        "pod-bridge-interface",
        read_text,
        "bridge_interface",
        "The bridge that pods are behind.",
    ),
    Option(
        "detectLocal.interfaceNamePrefix",
        "pod-interface-name-prefix",
        read_text,
        "interface_prefix",
        "What the names of pods' interfaces begin with.",
    ),
    Option(
        "nodePortAddresses",
        "nodeport-addresses",
        read_node_port_addresses,
        "node_port_addresses",
        "Networks whose addresses node ports listen on, or 'primary', 'localhost', 'all'.",
    ),
    Option(
        "healthzBindAddress",
        "healthz-bind-address",
        read_address(10256),
        "healthz",
        "IP:PORT of /healthz and /livez; empty: off.",
    ),
    Option(
        "metricsBindAddress",
        "metrics-bind-address",
        read_address(10249),
        "metrics",
        "IP:PORT of /metrics and /proxyMode; empty: off.",
    ),
    Option(
        "bindAddress",
        "bind-address",
        read_address(0),
        "bind_address",
        "The node's own address, if the Node does not say it; nothing is bound to it.",
    ),
    *_backend("iptables"),
    *_backend("nftables"),
    Option(
        "iptables.localhostNodePorts",
        "iptables-localhost-nodeports",
        read_bool,
        "localhost_node_ports",
        "Node ports on 127.0.0.1 too; off, as it needs route_localnet.",
    ),
    *_CONNTRACK,
    Option(
        "featureGates",
        "feature-gates",
        read_gates,
        "feature_gates",
        "AllowServiceExternalIPs=true: externalIPs anywhere; others have no effect.",
    ),
    Option("logging.verbosity", "v", read_number, "verbosity", "2: say what is done; 4: everything."),
    *map(_idle, ("logging.format", "logging.flushFrequency", "logging.vmodule", "logging.options")),
    *_OUR_OWN,
    *_IDLE,
)
