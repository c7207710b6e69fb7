"""What has not changed is not worked out again, and what is shown is the same as if it were."""

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.compile_iptables import ChainChange, Compiler, compile_iptables
from proxy.policy import Locality, ServingPort, serve, serve_port
from proxy.ports import NodeNetwork, ServicePort, ServicePortName
from proxy.track import track
from tests.unit.proxy.objects import endpoint_slice, service
from tests.unit.proxy.strategies import clusters

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))
HERE = Locality("here", "z1")


@settings(max_examples=20, deadline=None)
@given(st.lists(clusters(), min_size=2, max_size=4))
def test_A7_row70_changes_lead_to_the_tables_that_would_be_made_anew(
    rounds: list[tuple[ServicePort, ...]],
) -> None:
    compiler = Compiler(NETWORK)
    before = serve(rounds[0], HERE)
    tables = compiler.tables(before)
    for ports in rounds[1:]:
        after = serve(ports, HERE)
        changed: dict[ServicePortName, ServingPort | None] = {each.port.name: None for each in before}
        changed |= {each.port.name: each for each in after}
        change = compiler.change(changed)
        if isinstance(change, ChainChange):
            chains = {name: rules for name, rules in tables[0].chains.items() if name not in change.gone}
            tables = replace(tables[0], chains={**chains, **change.put}), tables[1]
        else:
            tables = change
        assert tables == compile_iptables(after, NETWORK)
        before = after


def test_A7_row70_another_endpoint_is_a_matter_of_its_services_own_chains() -> None:
    services = {f"s{number}": service(f"s{number}", f"10.96.1.{number}") for number in range(1, 6)}
    slices = {name: endpoint_slice("10.244.1.2", name=f"{name}-1", of=name) for name in services}
    compiler = Compiler(NETWORK)
    compiler.tables(serve(track(services.values(), slices.values()).service_ports, HERE))
    (port,) = track([services["s3"]], [endpoint_slice("10.244.1.3", of="s3")]).service_ports
    change = compiler.change({port.name: serve_port(port, HERE)})
    assert isinstance(change, ChainChange)
    assert sorted(name[:9] for name in change.put) == ["KUBE-SEP-", "KUBE-SVC-"]
    assert [name[:9] for name in change.gone] == ["KUBE-SEP-"]
    assert not isinstance(compiler.change({port.name: None}), ChainChange)  # its address goes, too


@settings(max_examples=8, deadline=None)
@given(st.lists(clusters(), min_size=2, max_size=4))
def test_what_is_remembered_never_shows(rounds: list[tuple[ServicePort, ...]]) -> None:
    compiler = Compiler(NETWORK)
    for ports in (*rounds, *rounds[::-1]):
        assert compiler.tables(serve(ports, HERE)) == compile_iptables(serve(ports, HERE), NETWORK)
