"""Flows that the kernel tracks, seen by our codec and by the conntrack program."""

import socket
import time
from collections.abc import Iterator

import pytest

from kubenet.kernel import iptables
from kubenet.kernel.conntrack import Conntrack, Family
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import run

pytestmark = pytest.mark.netns

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


@pytest.fixture
def netns() -> Iterator[NetNs]:
    with NetNs.unnamed() as made:
        run(["ip", "link", "set", "lo", "up"], netns=made)
        for family in (4, 6):  # asking for a state is what makes the kernel track
            rule = "*filter\n-A OUTPUT -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n"
            iptables.restore(made, rule, family=4 if family == 4 else 6)
        yield made


def send(netns: NetNs, family: Family, ports: range) -> None:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with netns.socket(kind, socket.SOCK_DGRAM) as client:
        client.bind((LOOPBACK[family], 4000))
        for port in ports:
            client.sendto(b"x", (LOOPBACK[family], port))


def ports_of(netns: NetNs, family: Family) -> list[int]:
    with Conntrack(netns) as table:
        return sorted(kind.sockets()[0][1] for kind in table.udp(family))


@pytest.mark.parametrize("family", [4, 6])
def test_udp_flows_are_listed_and_those_we_name_are_forgotten(netns: NetNs, family: Family) -> None:
    send(netns, family, range(5001, 5006))
    send(netns, 6 if family == 4 else 4, range(6001, 6003))
    with netns.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.connect_ex(("127.0.0.1", 5001))
    assert ports_of(netns, family) == [5001, 5002, 5003, 5004, 5005]
    with Conntrack(netns) as table:
        groups = table.udp(family)
        doomed = [e for kind, entries in groups.items() for e in entries if kind.sockets()[0][1] % 2]
        table.forget(doomed)
        table.forget(doomed)  # gone already: fine
    assert ports_of(netns, family) == [5002, 5004]
    listed = run(["conntrack", "-L", "-f", f"ipv{family}", "-p", "udp"], netns=netns).stdout.decode()
    assert sorted(line.split("dport=")[1].split()[0] for line in listed.splitlines()) == ["5002", "5004"]
    assert len(ports_of(netns, 6 if family == 4 else 4)) == 2


def test_P7_thousands_of_flows_are_read_and_forgotten(netns: NetNs) -> None:
    send(netns, 4, range(10000, 15000))
    with Conntrack(netns) as table:
        began = time.process_time()
        groups = table.udp(4)
        entries = [entry for group in groups.values() for entry in group]
        table.forget(entries)
        print(f"{len(entries)} flows read and forgotten in {time.process_time() - began:.3f} s of CPU")
        assert len(entries) == 5000
        assert not table.udp(4)
