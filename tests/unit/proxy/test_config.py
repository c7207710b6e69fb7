"""Flags and KubeProxyConfiguration: rows 64 and 65."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from kubenet.cli.proxy_run import config_of
from kubenet.errors import InvalidInput
from proxy.config import API_VERSION, KIND, OPTIONS, Settings, read_duration_s, with_file, with_flags
from proxy.node_settings import wanted_settings
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
metricsBindAddress: ""
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
    assert (config.healthz, config.metrics) == ((ip_address("0.0.0.0"), 10300), None)
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
        pytest.param("nodePortAddresses: [primary, 10.0.0.0/8]\n", "goes with nothing else", id="primary"),
        pytest.param("healthzBindAddress: here:80\n", "'here:80' is not IP:PORT", id="no address"),
        pytest.param(
            "mode: iptables\nmode: nftables\n", "proxy.yaml:4: field 'mode' stands twice", id="twice"
        ),
        pytest.param("mode: [\n", "not YAML", id="no YAML"),
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
def test_another_kind_of_file_is_refused(head: str) -> None:
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


def test_detecting_by_a_device_needs_its_name() -> None:
    with pytest.raises(InvalidInput, match=r"needs detectLocal\.bridgeInterface"):
        config_of(replace(Settings(), detect_local_mode="BridgeInterface"))
