"""Flags and KubeProxyConfiguration: rows 64 and 65."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from kubenet.cli.proxy_run import config_of
from kubenet.errors import InvalidInput
from proxy.config import Settings, as_file, unwritable, with_file, with_flags
from proxy.config_file import API_VERSION, KIND
from proxy.config_options import OPTIONS
from proxy.config_values import read_duration_s
from proxy.node_settings import buckets_for, wanted_settings
from proxy.ports import Balance

HEAD = f"apiVersion: {API_VERSION}\nkind: {KIND}\n"


def from_file(text: str) -> Settings:
    return with_file(Settings(), HEAD + text, "proxy.yaml")


def test_A6_row64_a_whole_configuration_is_read() -> None:
    settings = from_file(
        """
clientConnection: {kubeconfig: /etc/kubeconfig, qps: 5}
hostnameOverride: node-1
mode: iptables
clusterCIDR: 10.244.0.0/16,fd00:244::/48
detectLocalMode: InterfaceNamePrefix
detectLocal: {interfaceNamePrefix: pod}
nodePortAddresses: [172.30.0.0/16]
healthzBindAddress: 0.0.0.0:10300
metricsBindAddress: "[::1]:10249"
iptables:
  {masqueradeBit: 15, masqueradeAll: true, syncPeriod: 1m30s, minSyncPeriod: 500ms, localhostNodePorts: true}
nftables: {masqueradeBit: 13}
conntrack: {maxPerCore: 0, tcpBeLiberal: true, udpTimeout: 20s}
"""
    )
    assert settings.ignored == ("clientConnection.qps",)
    config = config_of(settings)
    assert config.node_name == "node-1"
    assert config.cluster_cidr == ip_network("10.244.0.0/16")
    assert config.cluster_cidr_v6 == ip_network("fd00:244::/48")
    assert config.pod_ifname == "pod+"
    assert config.node_port_networks == (ip_network("172.30.0.0/16"),)
    assert (config.healthz, config.metrics) == ((ip_address("0.0.0.0"), 10300), (ip_address("::1"), 10249))
    assert config.masquerade_mark == 1 << 15
    assert (config.masquerade_all, config.localhost_node_ports, config.tcp_liberal) == (True, True, True)
    assert (config.check_s, config.min_sync_s) == (90.0, 0.5)
    assert settings.nftables.masquerade_bit == 13
    network = config.networks[0]
    assert (network.pod_ifname, network.masquerade_mark) == ("pod+", 1 << 15)


def test_A6_row65_defaults() -> None:
    settings = Settings()
    assert settings.healthz == (ip_address("0.0.0.0"), 10256)
    assert settings.metrics == (ip_address("127.0.0.1"), 10249)
    assert settings.backend.masquerade_bit == 14
    assert settings.backend.sync_period_s == 30.0
    assert settings.external_ips == ()  # S7


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("colour: red\n", "proxy.yaml:3: unknown field 'colour'", id="unknown"),
        pytest.param(
            "iptables:\n  syncPeriods: 1s\n",
            "proxy.yaml:4: unknown field 'iptables.syncPeriods'",
            id="unknown, inside",
        ),
        pytest.param("mode: ipvs\n", "proxy.yaml:3: mode: mode 'ipvs' is not offered", id="ipvs"),
        pytest.param("iptables: {masqueradeBit: 32}\n", "32 is not a bit", id="a bit too many"),
        pytest.param("iptables: {syncPeriod: 30}\n", "30 is not text", id="a duration without a unit"),
        pytest.param(
            "iptables: {syncPeriod: 3 s}\n", "'3 s' is not a duration", id="a duration with a space"
        ),
        pytest.param("iptables: {masqueradeAll: perhaps}\n", "neither true nor false", id="no boolean"),
        pytest.param("clusterCIDR: 10.244.0.0\n", "", id="an address is a network of one"),
        pytest.param("clusterCIDR: ten\n", "'ten' does not appear", id="no network"),
        pytest.param("nodePortAddresses: [secondary]\n", "'secondary' does not appear", id="no such word"),
        pytest.param("healthzBindAddress: here:80\n", "'here:80' is not IP:PORT", id="no address"),
        pytest.param(
            "mode: iptables\nmode: nftables\n", "proxy.yaml:4: field 'mode' stands twice", id="twice"
        ),
        pytest.param("mode: [\n", "not YAML", id="no YAML"),
        pytest.param("ipvs:\n  ? [a]\n  : b\n", "proxy.yaml:4: a list or mapping is no name", id="no name"),
        pytest.param("? [a]\n: b\n", "proxy.yaml:3: a list or mapping is no name", id="no name, outside"),
        pytest.param("ipvs: " + "[" * 30 + "]" * 30, "proxy.yaml:3: nested more than 20", id="too deep"),
    ],
)
def test_A6_row64_what_cannot_be_meant_is_named_with_its_line(text: str, complaint: str) -> None:
    if not complaint:
        from_file(text)
        return
    with pytest.raises(InvalidInput) as caught:
        from_file(text)
    assert complaint in caught.value.message
    assert caught.value.message.startswith("proxy.yaml:")


@pytest.mark.parametrize(
    "head", ["kind: Pod\n", "apiVersion: v2\nkind: KubeProxyConfiguration\n", "- 1\n", ""]
)
def test_A6_row64_another_kind_of_file_is_refused(head: str) -> None:
    with pytest.raises(InvalidInput):
        with_file(Settings(), head, "proxy.yaml")


def test_A6_row64_the_file_wins_over_the_flags() -> None:
    flags = with_flags(
        Settings(), {"proxy-mode": "nftables", "cluster-cidr": "10.0.0.0/8", "masquerade-all": "true"}
    )
    assert (flags.mode, flags.iptables.masquerade_all) == ("nftables", True)
    both = with_file(flags, HEAD + "mode: iptables\n", "proxy.yaml")
    assert (both.mode, both.cluster_cidrs) == ("iptables", (ip_network("10.0.0.0/8"),))


def test_a_flag_that_cannot_be_meant_is_named() -> None:
    with pytest.raises(InvalidInput, match="--proxy-mode: mode 'ipvs' is not offered"):
        with_flags(Settings(), {"proxy-mode": "ipvs"})


def test_flags_of_our_own() -> None:
    said = {
        "allow-external-ips": "203.0.113.0/24, 2001:db8::/32",
        "balance": "round-robin",
        "service-cidrs": "10.96.0.0/16",
    }
    config = config_of(with_flags(Settings(), said))
    assert config.external_ips == (ip_network("203.0.113.0/24"), ip_network("2001:db8::/32"))
    assert config.default_balance is Balance.ROUND_ROBIN
    assert config.reserved == (ip_network("10.96.0.0/16"),)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("1h0m30s", 3630.0), ("100ms", 0.1), ("0", 0.0), ("0s", 0.0), ("1.5m", 90.0)],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert read_duration_s(text) == pytest.approx(seconds)


def test_no_option_stands_twice() -> None:
    for names in ([o.path for o in OPTIONS if o.path], [o.flag for o in OPTIONS if o.flag]):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("settings", "cores", "key", "value"),
    [
        pytest.param(Settings(), 2, "nf_conntrack_max", 131072, id="at least the minimum"),
        pytest.param(Settings(), 8, "nf_conntrack_max", 262144, id="by the number of cores"),
        pytest.param(Settings(), 64, "nf_conntrack_max", 1048576, id="at most a million"),
        pytest.param(Settings(conntrack_max_per_core=0), 8, "nf_conntrack_max", None, id="left alone"),
        pytest.param(Settings(), 2, "nf_conntrack_tcp_timeout_established", 86400, id="a day"),
        pytest.param(
            Settings(tcp_established_s=0.0), 2, "nf_conntrack_tcp_timeout_established", None, id="not"
        ),
        pytest.param(Settings(), 2, "nf_conntrack_tcp_be_liberal", None, id="not liberal"),
        pytest.param(Settings(tcp_liberal=True), 2, "nf_conntrack_tcp_be_liberal", 1, id="liberal"),
        pytest.param(Settings(), 2, "route_localnet", None, id="S6: never of itself"),
        pytest.param(
            Settings(localhost_node_ports=True), 2, "route_localnet", 1, id="row 19: when asked for"
        ),
        pytest.param(
            Settings(localhost_node_ports=True, mode="nftables"),
            2,
            "route_localnet",
            None,
            id="row 17: not with nft",
        ),
    ],
)
def test_A5_row55_kernel_settings(settings: Settings, cores: int, key: str, value: int | None) -> None:
    found = {name.rpartition("/")[2]: number for name, number in wanted_settings(settings, cores).items()}
    assert found.get(key) == value


@pytest.mark.parametrize(("most", "have", "buckets"), [(131072, 16384, 32768), (131072, 65536, 65536)])
def test_A5_row55_the_hash_grows_with_the_table(most: int, have: int, buckets: int) -> None:
    assert buckets_for(most, have) == buckets


def test_detecting_by_a_device_needs_its_name() -> None:
    with pytest.raises(InvalidInput, match=r"needs detectLocal\.bridgeInterface"):
        config_of(replace(Settings(), detect_local_mode="BridgeInterface"))


# What kubeadm writes: every field, most of them with the zero that means "not said".
KUBEADM = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  snatNodeInternalIP: null
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"""


def test_A6_row64_what_kubeadm_writes_says_what_it_says_and_nothing_else() -> None:
    flags = with_flags(Settings(), {"hostname-override": "Node-1"})
    settings = with_file(flags, KUBEADM, "config.conf")
    assert settings.ignored == ()
    assert settings == replace(
        Settings(),
        kubeconfig="/var/lib/kube-proxy/kubeconfig.conf",
        hostname_override="node-1",  # by flag: the file is the same on every node
        cluster_cidrs=(ip_network("10.244.0.0/16"),),
        bind_address=(ip_address("0.0.0.0"), 0),
    )


def test_A6_row64_a_field_without_an_effect_is_named_only_if_it_says_something() -> None:
    said = from_file("ipvs: {strictARP: true, scheduler: rr}\nconfigSyncPeriod: 15m0s\nportRange: ''\n")
    assert said.ignored == ("ipvs", "configSyncPeriod")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(Settings(), id="defaults"),
        pytest.param(with_file(Settings(), KUBEADM, "config.conf"), id="of kubeadm"),
        pytest.param(
            with_flags(
                Settings(),
                {
                    "proxy-mode": "nftables",
                    "cluster-cidr": "10.244.0.0/16,fd00::/48",
                    "nodeport-addresses": "primary,192.0.2.0/24",
                    "metrics-bind-address": "[::1]:10249",
                    "iptables-sync-period": "1h0m2.5s",
                    "conntrack-tcp-timeout-established": "0s",
                    "conntrack-max-per-core": "0",
                    "feature-gates": "AllowServiceExternalIPs=true,Other=false",
                    "v": "3",
                },
            ),
            id="of flags",
        ),
    ],
)
def test_A6_row64_what_write_config_to_writes_is_read_back(settings: Settings) -> None:
    assert with_file(Settings(), as_file(settings), "written") == settings


def test_A6_row64_flags_that_have_no_field_are_named() -> None:
    assert unwritable(Settings()) == ()
    assert unwritable(with_flags(Settings(), {"balance": "round-robin"})) == ("--balance",)


# The flags of kube-proxy 1.36 on Linux, without those that are klog's own and gone from it.
KUBE_PROXY_FLAGS = """
bind-address bind-address-hard-fail cluster-cidr config-sync-period conntrack-max-per-core conntrack-min
conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established
conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode feature-gates healthz-bind-address
hostname-override iptables-localhost-nodeports iptables-masquerade-bit iptables-min-sync-period
iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp ipvs-sync-period
ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst kube-api-content-type kube-api-qps
kubeconfig log-flush-frequency log-text-info-buffer-size log-text-split-stream logging-format masquerade-all
master metrics-bind-address nodeport-addresses oom-score-adj pod-bridge-interface pod-interface-name-prefix
profiling proxy-mode proxy-port-range show-hidden-metrics-for-version v vmodule
"""


def test_A6_row64_every_flag_of_kube_proxy_is_known() -> None:
    assert set(KUBE_PROXY_FLAGS.split()) <= {option.flag for option in OPTIONS}


@pytest.mark.parametrize(
    ("said", "networks", "primary"),
    [
        pytest.param("primary", [], True, id="primary"),
        pytest.param("primary,192.0.2.0/24", ["192.0.2.0/24"], True, id="both"),
        pytest.param("all", ["0.0.0.0/0", "::/0"], False, id="all"),
        pytest.param("localhost", ["127.0.0.0/8", "::1/128"], False, id="localhost"),
    ],
)
def test_A2_row18_words_for_node_port_addresses(said: str, networks: list[str], primary: bool) -> None:
    config = config_of(with_flags(Settings(), {"nodeport-addresses": said}))
    assert list(map(str, config.node_port_networks)) == networks
    assert config.node_ports_on_primary is primary


def test_A2_row20_a_feature_gate_allows_external_ips_anywhere() -> None:
    config = config_of(with_flags(Settings(), {"feature-gates": "AllowServiceExternalIPs=true"}))
    assert list(map(str, config.external_ips)) == ["0.0.0.0/0", "::/0"]
