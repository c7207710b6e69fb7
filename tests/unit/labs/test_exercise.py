"""Exercises as data: who plays what, what is refused, what counts as repaired."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from kubenet.errors import InvalidInput, NotFound
from labs import catalogue
from labs.cast import Facts, NodeFacts, PodFacts, probes_of, roles
from labs.exercise import TRACKS, Sheet
from labs.faults.network import FdbGone, LinkDown, RouteGone, RouteWrong, TunnelWrong
from labs.faults.steps import Cause, Run
from labs.referee import Verdict, Witnessed, shortcuts

NODES = tuple(
    NodeFacts(f"node-{n}", IPv4Address(f"172.30.0.{n}"), IPv4Network(f"10.244.{n}.0/24")) for n in (1, 2, 3)
)
PODS = tuple(
    PodFacts(f"{kind}-{n}", f"node-{n}", IPv4Address(f"10.244.{n}.{last}"), f"uid-{kind}-{n}")
    for n in (1, 2, 3)
    for last, kind in ((2, "client"), (3, "web"))
)
FACTS = Facts(NODES, PODS, {"shop/web": "10.96.1.1", "kube-system/kube-dns": "10.96.0.10"})
MINIMAL = """
title = "T"
track = 1
minutes = 1
component = "cni"
hints = []
{faults}
symptom = [{{kind = "http", source = "<client>", to = "<server_ip>:8080"}}]
repair = [{{kind = "restart", daemon = "<a>/agent"}}]
"""


def _sheet(faults: str) -> Sheet:
    return Sheet("x", MINIMAL.format(faults=faults), "story", "solution")


@pytest.mark.parametrize("name", catalogue.names())
def test_every_exercise_of_the_catalogue_can_be_played_with_any_cast(name: str) -> None:
    sheet = catalogue.sheet(name)
    for seed in range(6):
        cast = roles(FACTS, seed)
        exercise = sheet.played_by(cast)
        assert exercise.track in TRACKS
        assert exercise.fault
        assert exercise.symptom
        assert exercise.repair
        assert len(exercise.hints) == 3
        for text in (sheet.story, sheet.solution):
            assert "<" not in sheet.told(text, cast).replace("<- ", "")
        assert all(each.shown() for each in exercise.repair)


@pytest.mark.parametrize("name", catalogue.names())
def test_a_story_does_not_give_its_fault_away(name: str) -> None:
    sheet = catalogue.sheet(name)
    assert not any(word in sheet.story.lower() for word in ("fdb", "arp", "rp_filter", "vni", "mtu"))


def test_there_are_exercises_in_every_track_and_more_than_thirty() -> None:
    tracks = [catalogue.sheet(name).track for name in catalogue.names()]
    assert set(tracks) == set(TRACKS)
    assert sum(track <= 4 for track in tracks) >= 30


def test_the_seed_alone_decides_who_plays() -> None:
    assert roles(FACTS, 4) == roles(FACTS, 4)
    assert len({roles(FACTS, seed)["client"] for seed in range(20)}) == 3


def test_client_and_server_are_on_different_nodes() -> None:
    for seed in range(20):
        cast = roles(FACTS, seed)
        assert len({cast["a"], cast["b"], cast["c"]}) == 3
        assert IPv4Address(cast["client_ip"]) in IPv4Network(cast["a_cidr"])
        assert IPv4Address(cast["server_ip"]) in IPv4Network(cast["b_cidr"])


def test_a_lab_of_two_nodes_is_too_small() -> None:
    with pytest.raises(InvalidInput, match="exercises need 3"):
        roles(Facts(NODES[:2], PODS, FACTS.service_ips), 1)


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        pytest.param('fault = [{kind = "rout-gone", at = "x", dst = "y"}]', "rout-gone", id="unknown kind"),
        pytest.param('fault = [{kind = "route-gone", at = "x", dest = "y"}]', "dest", id="unknown field"),
        pytest.param(
            'fault = [{kind = "route-gone", at = "<nobody>", dst = "y"}]', "<nobody>", id="unknown role"
        ),
        pytest.param('fault = [{kind = "mtu", at = "x", ifname = "y", mtu = "big"}]', "mtu", id="wrong type"),
        pytest.param("fault = [", "Invalid value", id="no TOML"),
    ],
)
def test_a_mistake_in_an_exercise_is_named(faults: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        _sheet(faults).played_by(roles(FACTS, 1))


def test_all_pairs_of_client_and_server_are_controls() -> None:
    assert len(probes_of(FACTS)) == 9


def test_a_mistyped_exercise_is_not_found_but_guessed() -> None:
    with pytest.raises(NotFound, match="did you mean 'split'"):
        catalogue.sheet("spilt")


@pytest.mark.parametrize("seed", range(8))
def test_an_incident_is_three_faults_of_three_tracks(seed: int) -> None:
    tracks = {catalogue.sheet(name).track for name in catalogue.incident(seed)}
    assert len(tracks) == 3


def test_a_route_is_taken_back_as_it_was() -> None:
    fault = RouteGone(at="n", dst="default")
    assert fault.undo(("default via 169.254.1.1 dev eth0 onlink \n",)) == [
        Run("n", ("ip", "route", "replace", "default", "via", "169.254.1.1", "dev", "eth0", "onlink"))
    ]


def test_a_typed_route_has_its_type_in_front() -> None:
    fault = RouteWrong(at="n", dst="10.1.0.0/16", route="blackhole")
    assert fault.do(("",)) == [Run("n", ("ip", "route", "add", "blackhole", "10.1.0.0/16"))]
    assert fault.cause().present("blackhole 10.1.0.0/16 ")
    assert not fault.cause().present("10.1.0.0/16 dev eth0")


def test_a_link_that_comes_up_gets_its_neighbours_and_routes_back_in_an_order_that_works() -> None:
    routes = "default via 169.254.1.1 onlink \n169.254.1.1 scope link \n"
    steps = LinkDown(at="n", ifname="eth0").undo(
        (routes, "169.254.1.1 lladdr ee:ee:ee:ee:ee:ee PERMANENT \n")
    )
    words = [step.argv for step in steps if isinstance(step, Run)]
    assert [argv[1] for argv in words] == ["link", "neighbour", "route", "route"]
    assert "scope" in words[2]


def test_a_tunnel_is_rebuilt_with_all_that_stood_on_it() -> None:
    saved = (
        "3: kubenet.1: <UP> mtu 1450 qdisc\n link/ether 0e:58:00:00:00:01 brd ff\n"
        " vxlan id 1 local 172.30.0.1 dev eth0 srcport 0 0 dstport 8472 nolearning",
        "inet 10.244.0.0/32 scope global kubenet.1",
        "10.244.1.0/24 via 10.244.1.0 proto 107 onlink \n",
        "10.244.1.0 lladdr 0e:58:00:00:00:02 PERMANENT \n",
        "0e:58:00:00:00:02 dst 172.30.0.2 self permanent\n",
    )
    steps = TunnelWrong(at="n", ifname="kubenet.1", vni=2, port=8472).do(saved)
    said = [" ".join(step.argv) for step in steps if isinstance(step, Run)]
    assert "type vxlan id 2 local 172.30.0.1 dev eth0 dstport 8472 nolearning" in said[1]
    assert said[-3:] == [
        "ip route replace 10.244.1.0/24 via 10.244.1.0 proto 107 onlink dev kubenet.1",
        "ip neighbour replace 10.244.1.0 lladdr 0e:58:00:00:00:02 dev kubenet.1 nud permanent",
        "bridge fdb append 0e:58:00:00:00:02 dev kubenet.1 dst 172.30.0.2",
    ]


def test_a_peer_is_not_mistaken_for_one_whose_address_begins_the_same() -> None:
    fault = FdbGone(at="n", ifname="kubenet.1", peer="172.30.0.1")
    assert fault.cause().present("0e:58:00:00:00:02 dst 172.30.0.12 self permanent")
    assert not fault.cause().present("0e:58:00:00:00:02 dst 172.30.0.1 self permanent")


def test_a_cause_is_there_when_it_matches_or_when_it_does_not() -> None:
    ask = Run("n", ("true",))
    assert Cause(ask, "x").present("axb")
    assert not Cause(ask, "x", unless=True).present("axb")


def test_a_replaced_pod_and_a_removed_filter_are_short_cuts() -> None:
    before = Witnessed({"a": "1", "b": "2", "c": "3"}, frozenset({"node-1 ip x", "node-1 ip y"}))
    now = Witnessed({"a": "1", "b": "9"}, frozenset({"node-1 ip y", "node-1 ip z"}))
    assert shortcuts(before, now) == [
        "pod b was replaced, not repaired",
        "pod c was deleted, not repaired",
        "the packet filter 'node-1 ip x' was removed",
    ]


@pytest.mark.parametrize("part", ["symptom", "cause", "scope", "shortcuts"])
def test_each_part_alone_keeps_an_exercise_from_being_passed(part: str) -> None:
    assert Verdict().passed
    assert not Verdict(**{part: ("something",)}).passed
