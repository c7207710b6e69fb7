"""Addresses from outside: one spelling, and none that must not be reached."""

from ipaddress import ip_address, ip_network

import pytest

from proxy.ports import Endpoint, ServicePortName, parse_ip, why_not_endpoint


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("10.96.0.1", "10.96.0.1", id="as it should be"),
        pytest.param("010.096.000.001", "10.96.0.1", id="leading zeros are decimal"),
        pytest.param("::ffff:10.96.0.1", "10.96.0.1", id="IPv4-mapped is IPv4"),
        pytest.param("FD00:0:0::1", "fd00::1", id="IPv6 in another spelling"),
    ],
)
def test_A1_row27_a_sloppy_address_is_made_canonical(text: str, address: str) -> None:
    assert parse_ip(text) == ip_address(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "None",
        "10.96.0",
        "10.96.0.256",
        "10.96.0.1 ",
        "10.96.0.1\n",
        "10.96.0.1/32",
        "fe80::1%eth0",
        "web.demo.svc",
        "1\u0660.0.0.1",
        "10.0.0.000000000001",
    ],
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_ip(text) is None


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        pytest.param("127.0.0.1", "loopback", id="IPv4 loopback"),
        pytest.param("127.255.0.9", "loopback", id="far in the loopback network"),
        pytest.param("::1", "loopback", id="IPv6 loopback"),
        pytest.param("169.254.169.254", "link-local", id="cloud metadata address"),
        pytest.param("fe80::1", "link-local", id="IPv6 link-local"),
        pytest.param("224.0.0.251", "multicast", id="IPv4 multicast"),
        pytest.param("ff02::1", "multicast", id="IPv6 multicast"),
        pytest.param("0.0.0.0", "no address", id="unspecified"),
        pytest.param("0.0.0.7", "no address", id="this network"),
        pytest.param("::", "no address", id="IPv6 unspecified"),
        pytest.param("255.255.255.255", "broadcast", id="broadcast"),
        pytest.param("10.96.3.4", "service network", id="a virtual address"),
    ],
)
def test_S7_an_endpoint_may_not_be_there(ip: str, reason: str) -> None:
    assert reason in why_not_endpoint(ip_address(ip), (ip_network("10.96.0.0/16"),))


@pytest.mark.parametrize("ip", ["10.244.1.2", "192.168.0.1", "172.30.0.2", "8.8.8.8", "fd00::2"])
def test_S7_an_endpoint_may_be_there(ip: str) -> None:
    assert why_not_endpoint(ip_address(ip), (ip_network("10.96.0.0/16"),)) == ""


def test_names_are_written_as_kubernetes_writes_them() -> None:
    assert str(ServicePortName("demo", "web", "http")) == "demo/web:http"
    assert str(ServicePortName("demo", "web")) == "demo/web"
    assert str(Endpoint(ip_address("10.0.0.1"), 80)) == "10.0.0.1:80"
    assert str(Endpoint(ip_address("fd00::1"), 80)) == "[fd00::1]:80"
