"""What is kept up to date is what would be made anew; and only what changed is looked at."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.model.objects import EndpointSlice, Service, ServicePortSpec, ServiceSpec
from kubenet.model.protocol import Protocol
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import ServicePortName
from proxy.track import TrackRules, track
from proxy.view import View
from tests.unit.proxy.cluster import Cluster
from tests.unit.proxy.objects import backend, endpoint_slice, service

HERE = Locality("here", "z1")
NAMES = ("a", "b", "c", "web")


_specs = st.builds(
    lambda name, port, protocol, node_port: ServicePortSpec(
        name=name, port=port, protocol=protocol, node_port=node_port
    ),
    st.sampled_from(["", "http"]),
    st.sampled_from([53, 80]),
    st.sampled_from(["TCP", "UDP", "nonsense"]),
    st.sampled_from([0, 30000, 30001]),
)


@st.composite
def services(draw: st.DrawFn) -> Service:
    """Return a Service that others may well be in the way of."""
    ip = draw(st.sampled_from(["10.96.0.1", "10.96.0.2", "10.96.0.3", "127.0.0.1", "None", "fd00::1"]))
    spec = ServiceSpec(
        type=draw(st.sampled_from(["ClusterIP", "NodePort", "ExternalName"])),
        cluster_ip=ip,
        cluster_ips=(ip,),
        external_ips=tuple(draw(st.sets(st.sampled_from(["10.96.0.2", "203.0.113.1"]), max_size=2))),
        ports=tuple(draw(st.lists(_specs, max_size=3))),
        internal_traffic_policy=draw(st.sampled_from(["Cluster", "Local"])),
    )
    return service(draw(st.sampled_from(NAMES)), spec=spec)


@st.composite
def slices(draw: st.DrawFn) -> EndpointSlice:
    ips = draw(st.sets(st.sampled_from(["10.244.1.2", "10.244.1.3", "127.0.0.1"]), max_size=3))
    nodes = st.sampled_from(["here", "far"])
    return endpoint_slice(
        *(
            backend(ip, ready=draw(st.sampled_from([True, False])), node=draw(nodes), zones=draw(_zones))
            for ip in sorted(ips)
        ),
        name=draw(st.sampled_from(["x", "y", "z"])),
        of=draw(st.sampled_from(["", *NAMES])),
    )


_zones = st.lists(st.sampled_from(["z1", "z2"]), max_size=1)
_events = st.tuples(st.booleans(), services() | slices())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(_events, max_size=4), max_size=8), st.integers(0, 8))
def test_A7_row70_whatever_came_in_whatever_order_shows_as_if_it_were_worked_out_anew(
    rounds: Sequence[Sequence[tuple[bool, Service | EndpointSlice]]], moves_at: int
) -> None:
    rules = TrackRules(externals=replace(TrackRules().externals, external_ips=_EVERYWHERE))
    cluster, view = Cluster(), View(rules, HERE)
    known: dict[ServicePortName, ServingPort | None] = {}
    for number, events in enumerate(rounds):
        for put, thing in events:
            (cluster.put if put else cluster.drop)(thing)
        if number == moves_at:
            known |= {name: change.after for name, change in view.move(Locality("far", "z2")).items()}
        changes = view.update(cluster.look())
        known |= {name: change.after for name, change in changes.items()}
        whole = track(cluster.services.values(), cluster.slices.values(), rules)
        assert tuple(view.ports()) == serve(whole.service_ports, view.here)
        assert view.refused == set(whole.refused)
        # Whoever hears of changes only knows all of it, too.
        assert {name: each for name, each in known.items() if each} == {
            each.port.name: each for each in view.ports()
        }


_EVERYWHERE = (ip_network("0.0.0.0/0"),)


def test_A7_row70_a_change_of_one_service_is_about_that_one_only() -> None:
    cluster, view = Cluster(), View(TrackRules(), HERE)
    for number in range(1, 6):
        cluster.put(service(f"s{number}", f"10.96.1.{number}"))
        cluster.put(endpoint_slice("10.244.1.2", name=f"s{number}-1", of=f"s{number}"))
    assert len(view.update(cluster.look())) == 5
    before = list(view.ports())
    cluster.put(endpoint_slice("10.244.1.3", name="s3-1", of="s3"))
    name = ServicePortName("demo", "s3", "http", Protocol.TCP)
    changes = view.update(cluster.look())
    assert list(changes) == [name]
    assert [new is old for new, old in zip(view.ports(), before, strict=True)] == [
        True,
        True,
        False,
        True,
        True,
    ]


def test_A7_row70_an_object_that_says_the_same_changes_nothing() -> None:
    cluster, view = Cluster(), View(TrackRules(), HERE)
    cluster.put(service())
    cluster.put(endpoint_slice("10.244.1.2"))
    view.update(cluster.look())
    cluster.put(service(annotations={"a": "new one"}))
    assert view.update(cluster.look()) == {}


def test_who_gets_an_address_when_its_holder_goes() -> None:
    cluster, view = Cluster(), View(TrackRules(), HERE)
    for name in ("b", "a", "c"):
        cluster.put(service(name))
    view.update(cluster.look())
    assert [each.port.name.service for each in view.ports()] == ["a"]
    assert len(view.refused) == 2
    cluster.drop(service("a"))
    changes = view.update(cluster.look())
    assert {name.service: change.after is not None for name, change in changes.items()} == {
        "a": False,
        "b": True,
    }
    assert len(view.refused) == 1


def test_A1_row6_what_a_full_look_leaves_out_has_gone() -> None:
    cluster, view = Cluster(), View(TrackRules(), HERE)
    cluster.put(service("a", "10.96.1.1"))
    cluster.put(service("b", "10.96.1.2"))
    objects = cluster.look()
    view.replace(objects)
    changes = view.replace([each for each in objects if each.key != "demo/a"])
    assert [name.service for name in changes] == ["a"]
    assert [each.port.name.service for each in view.ports()] == ["b"]


def test_A3_row36_a_node_that_moves_to_another_zone_is_served_anew() -> None:
    cluster, view = Cluster(), View(TrackRules(), Locality("here", "z1"))
    cluster.put(service())
    cluster.put(endpoint_slice(backend("10.244.1.2", zones=["z1"]), backend("10.244.1.3", zones=["z2"])))
    view.update(cluster.look())
    (near,) = view.ports()
    (change,) = view.move(Locality("here", "z2")).values()
    (far,) = view.ports()
    assert change == (near, far)
    assert [str(pool[0].ip) for pool in (near.cluster, far.cluster)] == ["10.244.1.2", "10.244.1.3"]
