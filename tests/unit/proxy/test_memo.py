"""What has not changed is not worked out again, and what is shown is the same as if it were."""

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.model.objects import EndpointSlice, Service
from proxy.compile_iptables import Compiler, compile_iptables
from proxy.memo import Memo
from proxy.policy import Locality, Server, serve
from proxy.ports import NodeNetwork, ServicePort
from proxy.track import Tracker, track
from tests.unit.proxy.objects import endpoint_slice, service
from tests.unit.proxy.strategies import clusters

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))
HERE = Locality("here", "z1")


def test_each_object_is_worked_out_once_for_as_long_as_it_is_asked_for() -> None:
    seen: list[str] = []

    def length(word: str) -> int:
        seen.append(word)
        return len(word)

    memo = Memo(length)
    words = ["a", "bb", "ccc"]
    assert memo.of(words) == (1, 2, 3)
    assert memo.of(words[::-1]) == (3, 2, 1)
    assert memo.of([*words[:1], *words[:1]]) == (1, 1)
    assert seen == words
    assert memo.of(words) == (1, 2, 3)
    assert seen == [*words, *words[1:]]  # what a round left out was forgotten


def test_A7_row70_a_change_of_one_service_works_out_that_one_only() -> None:
    services = {f"s{number}": service(f"s{number}", f"10.96.1.{number}") for number in range(1, 6)}
    slices = {name: endpoint_slice("10.244.1.2", name=f"{name}-1", of=name) for name in services}
    tracker, server, compiler = Tracker(), Server(HERE), Compiler(NETWORK)

    def chains() -> dict[str, object]:
        tracked = tracker.track(services.values(), slices.values())
        return dict(compiler.tables(server.serve(tracked.service_ports))[0].chains)

    before = chains()
    slices["s3"] = endpoint_slice("10.244.1.3", name="s3-1", of="s3")
    after = chains()
    kept = [name for name in after if name.startswith("KUBE-S") and after[name] is before.get(name)]
    assert len(kept) == 8  # of the four others, the pool and its endpoint
    del services["s3"]
    assert len([n for n in chains() if n.startswith("KUBE-S")]) == 8 + 1  # and KUBE-SERVICES


@settings(max_examples=8, deadline=None)
@given(st.lists(clusters(), min_size=2, max_size=4))
def test_what_is_remembered_never_shows(rounds: list[tuple[ServicePort, ...]]) -> None:
    server, compiler = Server(HERE), Compiler(NETWORK)
    for ports in (*rounds, *rounds[::-1]):
        assert compiler.tables(server.serve(ports)) == compile_iptables(serve(ports, HERE), NETWORK)


def test_tracking_again_gives_what_tracking_anew_gives() -> None:
    web, piece = service(), endpoint_slice("10.244.1.2")
    tracker = Tracker()
    rounds: list[tuple[list[Service], list[EndpointSlice]]] = [
        ([web], [piece]),
        ([web], []),
        ([web], [piece, endpoint_slice("10.244.1.3", name="web-2")]),
        ([web, service("other", "10.96.0.1")], [piece]),  # the same address: refused
        ([service("other", "10.96.0.1")], [piece]),
        ([service(cluster_ip="127.0.0.1")], [endpoint_slice("127.0.0.1")]),
        ([web], [piece]),
    ]
    for services, slices in rounds:
        assert tracker.track(services, slices) == track(services, slices)


def test_a_node_that_moves_to_another_zone_works_out_everything_anew() -> None:
    near, far = service(), endpoint_slice("10.244.1.2")
    ports = track([near], [far]).service_ports
    hinted = replace(ports[0].endpoints[0], zone_hints=frozenset({"z1"}))
    other = replace(ports[0].endpoints[0], port=9090, zone_hints=frozenset({"z2"}))
    port = replace(ports[0], endpoints=(hinted, other))
    assert Server(Locality("here", "z1")).serve([port])[0].cluster == (hinted,)
    assert Server(Locality("here", "z2")).serve([port])[0].cluster == (other,)
