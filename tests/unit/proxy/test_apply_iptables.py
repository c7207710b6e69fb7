"""Writing no more than differs, whatever the kernel held before."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.errors import KubenetError, ProgramFailed
from proxy.apply_iptables import IptablesBackend
from proxy.backend import Applied, StateUnknown
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Endpoint, NodeNetwork, ServicePort, ServicePortName
from proxy.service_rules import chain_name
from tests.unit.proxy.fakes import FakeIptables
from tests.unit.proxy.strategies import clusters

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))


def web(*lasts: int, name: str = "web", ip: str = "10.96.0.1") -> ServicePort:
    endpoints = tuple(Endpoint(ip_address(f"10.244.1.{last}"), 8080) for last in lasts)
    return ServicePort(ServicePortName("demo", name), ip_address(ip), 80, endpoints=endpoints)


OTHER = web(7, 8, name="other", ip="10.96.0.2")


def serving(*ports: ServicePort) -> Sequence[ServingPort]:
    return serve(ports, Locality("here"))


@pytest.fixture
def kernel() -> FakeIptables:
    return FakeIptables()


@pytest.fixture
def backend(kernel: FakeIptables) -> IptablesBackend:
    return IptablesBackend(kernel, NETWORK)


def fresh(*ports: ServicePort) -> FakeIptables:
    """Return what the kernel holds when nothing was there before ``ports``."""
    kernel = FakeIptables()
    IptablesBackend(kernel, NETWORK).apply(serving(*ports))
    return kernel


def test_the_first_sync_writes_everything_and_hooks_it_in_once(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    applied = backend.apply(serving(web(2, 3)))
    assert applied.observed
    assert applied.written > 10
    for table, chain, jumps in [("nat", "PREROUTING", 1), ("nat", "OUTPUT", 1), ("filter", "FORWARD", 4)]:
        assert len(kernel.tables[table][chain]) == jumps


def test_A7_row70_an_unchanged_state_starts_no_program(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    backend.apply(serving(web(2, 3)))
    started = kernel.started
    assert backend.apply(serving(web(2, 3))) == Applied()
    assert kernel.started == started


def test_A7_row70_a_change_writes_the_chains_that_changed(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    backend.apply(serving(web(2, 3), OTHER))
    started = kernel.started
    applied = backend.apply(serving(web(2, 4), OTHER))
    assert applied == Applied(written=2, removed=1)  # the pool, the new endpoint; the old endpoint
    assert kernel.started == started + 1
    assert kernel.tables == fresh(web(2, 4), OTHER).tables


def test_A7_row73_a_service_that_goes_takes_its_chains_along(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    backend.apply(serving(web(2, 3), OTHER))
    backend.apply(serving(OTHER))
    assert kernel.tables == fresh(OTHER).tables
    assert chain_name("SVC", web()) not in kernel.tables["nat"]


def test_A7_row78_a_restart_finds_everything_in_place(kernel: FakeIptables, backend: IptablesBackend) -> None:
    backend.apply(serving(web(2, 3), OTHER))
    restarted = IptablesBackend(kernel, NETWORK)
    assert restarted.apply(serving(web(2, 3), OTHER)) == Applied(observed=True)


def test_A7_row78_a_restart_removes_what_went_meanwhile(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    backend.apply(serving(web(2, 3), OTHER))
    IptablesBackend(kernel, NETWORK).apply(serving(web(2)))
    assert kernel.tables == fresh(web(2)).tables


def test_A7_row69_after_a_refusal_the_kernel_is_read_first(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    backend.apply(serving(web(2, 3)))
    before = kernel.tables
    kernel.broken = True
    with pytest.raises(ProgramFailed):
        backend.apply(serving(web(2, 4)))
    assert kernel.tables == before  # packets go where they went
    assert backend.apply(serving(web(2, 4))).observed
    assert kernel.tables == fresh(web(2, 4)).tables


def test_A7_row74_nobody_changed_anything(backend: IptablesBackend) -> None:
    backend.apply(serving(web(2, 3)))
    assert backend.drifted() == []


@pytest.mark.parametrize(
    ("table", "chain", "named"),
    [
        pytest.param("nat", "KUBE-SERVICES", "nat KUBE-SERVICES", id="dispatch flushed"),
        pytest.param("nat", "PREROUTING", "nat PREROUTING", id="jump lost"),
        pytest.param("filter", "FORWARD", "filter FORWARD", id="jumps of the filter table lost"),
        pytest.param("nat", chain_name("SVC", web()), f"nat {chain_name('SVC', web())}", id="one pool"),
    ],
)
def test_A7_row74_a_flushed_chain_is_seen_and_mended(
    kernel: FakeIptables, backend: IptablesBackend, table: str, chain: str, named: str
) -> None:
    backend.apply(serving(web(2, 3), OTHER))
    whole = {name: dict(chains) for name, chains in kernel.tables.items()}
    kernel.tables[table][chain] = []
    assert named in backend.drifted()
    backend.apply(serving(web(2, 3), OTHER))
    assert kernel.tables == whole
    assert backend.drifted() == []


def test_A7_row74_one_rule_too_many_is_seen(kernel: FakeIptables, backend: IptablesBackend) -> None:
    backend.apply(serving(web(2, 3)))
    kernel.tables["nat"]["KUBE-SERVICES"].insert(0, "-j RETURN")
    assert backend.drifted() == ["nat KUBE-SERVICES"]


def test_A7_row74_mending_leaves_the_undamaged_alone(kernel: FakeIptables, backend: IptablesBackend) -> None:
    backend.apply(serving(web(2, 3), OTHER))
    kernel.tables["nat"][chain_name("SVC", web())] = []
    backend.drifted()
    assert backend.apply(serving(web(2, 3), OTHER)) == Applied(written=1, observed=True)


def test_A7_row77_rules_and_chains_of_others_stay(kernel: FakeIptables, backend: IptablesBackend) -> None:
    kernel.tables["nat"]["DOCKER"] = ["-j RETURN"]
    kernel.tables["nat"]["OUTPUT"] = ["-j DOCKER"]
    backend.apply(serving(web(2, 3)))
    backend.apply(serving())
    assert kernel.tables["nat"]["DOCKER"] == ["-j RETURN"]
    assert kernel.tables["nat"]["OUTPUT"][-1] == "-j DOCKER"  # ours come first


def test_a_stale_chain_that_others_jump_to_does_not_stop_the_sync(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    backend.apply(serving(web(2, 3)))
    pool = chain_name("SVC", web())
    kernel.tables["nat"]["DOCKER"] = [f"-j {pool}"]
    with pytest.raises(ProgramFailed):
        backend.apply(serving(OTHER))
    backend.apply(serving(OTHER))
    assert kernel.tables["nat"][pool] == []
    assert kernel.tables["nat"]["KUBE-SERVICES"] == fresh(OTHER).tables["nat"]["KUBE-SERVICES"]
    assert backend.drifted() == []


def test_a_table_that_iptables_cannot_read_is_left_alone(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    kernel.foreign = True
    before = kernel.tables
    with pytest.raises(KubenetError, match="table nat: another program"):
        backend.apply(serving(web(2)))
    assert kernel.tables == before


@settings(max_examples=20, deadline=None)
@given(st.lists(clusters(), min_size=2, max_size=4))
def test_whatever_was_there_before_the_end_is_the_same(history: list[tuple[ServicePort, ...]]) -> None:
    kernel = FakeIptables()
    backend = IptablesBackend(kernel, NETWORK)
    for cluster in history:
        backend.apply(serving(*cluster))
    expected = fresh(*history[-1])
    assert kernel.tables == expected.tables
    assert backend.drifted() == []


def test_the_ipv6_backend_compares_in_its_own_words() -> None:
    kernel = FakeIptables()
    port = replace(web(), cluster_ip=ip_address("fd00:96::1"), affinity_s=60)
    port = replace(port, endpoints=(Endpoint(ip_address("fd00:244::2"), 80),))
    backend = IptablesBackend(kernel, NodeNetwork(6, ip_network("fd00:244::/48")))
    backend.apply(serving(port))
    assert backend.drifted() == []


def test_A7_row74_P2_after_somebody_elses_write_everything_is_compared(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    backend.apply(serving(web(2), OTHER))
    whole = {table: dict(chains) for table, chains in kernel.tables.items()}
    kernel.tables["nat"]["KUBE-SERVICES"] = []
    kernel.disturbed = True
    with pytest.raises(StateUnknown):
        backend.apply_changed({})
    assert backend.apply(serving(web(2), OTHER)).written == 1
    assert kernel.tables == whole
    assert backend.apply_changed({}).unchanged


def test_A7_row70_a_change_of_endpoints_writes_the_chains_of_its_service(
    kernel: FakeIptables, backend: IptablesBackend
) -> None:
    backend.apply(serving(web(2), OTHER))
    started = kernel.started
    (now,) = serving(web(2, 3))
    applied = backend.apply_changed({now.port.name: now})
    assert (applied.written, applied.removed) == (2, 0)  # the pool, and the new endpoint
    assert applied.rules_written == {"nat": 5}
    assert applied.rules == backend.apply(serving(web(2, 3), OTHER)).rules
    assert kernel.started == started + 1
    assert kernel.tables == fresh(web(2, 3), OTHER).tables
    kernel.broken = True
    with pytest.raises(ProgramFailed):
        backend.apply_changed({now.port.name: None})
    with pytest.raises(StateUnknown):
        backend.apply_changed({})
