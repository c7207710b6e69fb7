"""What we believe about nftables in the kernel."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from kubenet.kernel.netlink import NetlinkError
from kubenet.kernel.nft import Nftables, NftRefused
from kubenet.kernel.run import run
from kubenet.model.nft import Chain, Goto, Ruleset
from kubenet.model.nft_change import RulesetChange, render
from kubenet.model.protocol import Protocol
from proxy import nft_names as n
from proxy.apply_nft import NftBackend
from proxy.backend import Applied
from proxy.compile_nft import compile_nft
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Balance, Endpoint, Family, NodeNetwork, ServicePort, ServicePortName, TrafficPolicy
from tests.netns.proxy.world import World

pytestmark = pytest.mark.netns

NETWORK = NodeNetwork(
    4,
    ip_network("10.244.0.0/16"),
    node_ip=ip_address("172.30.0.1"),
    service_cidrs=(ip_network("10.96.0.0/16"),),
)
NETWORK_V6 = NodeNetwork(6, ip_network("fd00:244::/48"), service_cidrs=(ip_network("fd00:96::/112"),))
LOCAL = TrafficPolicy.LOCAL


def web(*lasts: int, number: int = 1, family: Family = 4, node: str = "far") -> ServicePort:
    pods, services = ("10.244.1.{}", "10.96.0.{}") if family == 4 else ("fd00:244::{}", "fd00:96::{}")
    endpoints = tuple(Endpoint(ip_address(pods.format(last)), 8080, node_name=node) for last in lasts)
    name = ServicePortName("demo", f"web-{number}", "http")
    return ServicePort(name, ip_address(services.format(number)), 80, endpoints=endpoints)


def one_of_each(family: Family) -> Sequence[ServingPort]:
    """Return a service port of every kind, so that every sentence is said."""
    outside = ip_address("192.0.2.1" if family == 4 else "2001:db8::1")
    ranges = tuple(
        map(ip_network, ("203.0.113.0/24", "172.30.0.0/16") if family == 4 else ("2001:db8:1::/48",))
    )
    turns = replace(web(2, 3, number=2, family=family), balance=Balance.ROUND_ROBIN, node_port=30002)
    return serve(
        [
            web(2, 3, 4, family=family),
            turns,
            replace(web(2, 3, number=3, family=family), affinity_s=60),
            replace(web(2, number=4, family=family), affinity_s=60, balance=Balance.ROUND_ROBIN),
            web(number=5, family=family),
            replace(web(2, number=6, family=family), internal_policy=LOCAL),
            replace(web(2, 3, number=7, family=family), node_port=30007, affinity_s=30),
            replace(
                web(2, number=8, family=family, node="here"),
                node_port=30008,
                external_policy=LOCAL,
                load_balancer_ips=(outside,),
                source_ranges=ranges,
            ),
            replace(
                web(5, number=10, family=family),
                name=ServicePortName("kube-system", "dns", "", Protocol.UDP),
                port=53,
            ),
        ],
        Locality("here"),
    )


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture
def network(family: Family) -> NodeNetwork:
    return NETWORK if family == 4 else NETWORK_V6


@pytest.fixture
def kernel(world: World, family: Family) -> Iterator[Nftables]:
    made = Nftables(world.node, family, n.TABLE)
    yield made
    made.close()


def read(kernel: Nftables, want: Ruleset) -> Ruleset | None:
    found = kernel.read(lambda: want.chains, lambda name: n.shape_of(kernel.family, name))
    # What clients were learned is nobody's wish and is not read.
    return found and replace(found, elements={n.AFFINITY: {}, **found.elements})


def test_the_table_is_read_back_exactly_as_it_was_wanted(
    kernel: Nftables, network: NodeNetwork, family: Family, golden: Callable[[str, str], None]
) -> None:
    want = compile_nft(one_of_each(family), network)
    golden(f"proxy_nft_v{family}.txt", render(want, n.TABLE))
    NftBackend(kernel, network).apply(one_of_each(family))
    assert read(kernel, want) == want


def test_nft_itself_can_list_the_table(world: World, kernel: Nftables, network: NodeNetwork) -> None:
    """nft ends with an assertion where a key begins in the register of an answer; so none of ours does."""
    backend = NftBackend(kernel, network)
    backend.apply(one_of_each(network.family))
    listed = run(["nft", "list", "ruleset"], netns=world.node)
    assert "numgen random mod 3 map @endpoints" in listed.stdout.decode()


def test_a_second_sync_and_a_restart_write_nothing(
    world: World, kernel: Nftables, network: NodeNetwork
) -> None:
    backend = NftBackend(kernel, network)
    assert backend.apply(one_of_each(network.family)).written
    assert backend.apply(one_of_each(network.family)) == Applied()
    assert list(backend.drifted()) == []
    kernel.close()  # row 78: the table stays
    again = Nftables(world.node, network.family, n.TABLE)
    assert NftBackend(again, network).apply(one_of_each(network.family)) == Applied(observed=True)
    again.close()


def test_changes_arrive_where_a_fresh_start_does(kernel: Nftables, network: NodeNetwork) -> None:
    family = network.family
    backend = NftBackend(kernel, network)
    histories = [
        one_of_each(family),
        one_of_each(family)[2:],
        (),
        serve([replace(web(2, 3, family=family), balance=Balance.ROUND_ROBIN)], Locality("here")),
        serve([web(3, family=family), web(2, 4, number=3, family=family)], Locality("here")),
    ]
    for serving in histories:
        backend.apply(serving)
    want = compile_nft(histories[-1], network)
    found = read(kernel, want)
    assert found is not None
    for name in want.sets:
        if name != n.WAYS:
            assert found.contents(name) == want.contents(name)
    assert all(found.chains[name] == chain for name, chain in want.chains.items())


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        pytest.param(
            RulesetChange(
                elements_out={n.CLUSTER_IPS: {bytes([10, 96, 0, 1]): b"", bytes([10, 96, 9, 9]): b""}},
                shapes=n.sets_of(4),
            ),
            "set cluster-ips: delete 10.96.9.9",
            id="an element that is not there",
        ),
        pytest.param(
            RulesetChange(chains={"rejecting": Chain(((Goto("nowhere"),),))}),
            "chain rejecting rule 1",
            id="a rule that leads nowhere",
        ),
        pytest.param(
            RulesetChange(chains_gone=("dispatch",)), "delete chain dispatch", id="a chain that is used"
        ),
    ],
)
def test_A7_row72_a_refused_transaction_names_the_culprit_and_changes_nothing(
    world: World, change: RulesetChange, culprit: str
) -> None:
    kernel = Nftables(world.node, 4, n.TABLE)
    want = compile_nft(one_of_each(4), NETWORK)
    NftBackend(kernel, NETWORK).apply(one_of_each(4))
    others = {n.CLUSTER_IPS: {bytes([10, 96, 8, 8]): b""}}
    with pytest.raises(NftRefused) as refused:
        kernel.commit(replace(change, elements_in=others, shapes=n.sets_of(4)))
    assert refused.value.what == culprit
    assert read(kernel, want) == want
    kernel.close()


def test_A7_row74_P2_an_owned_table_survives_what_others_do(world: World) -> None:
    kernel = Nftables(world.node, 4, n.TABLE)
    backend = NftBackend(kernel, NETWORK)
    backend.apply(one_of_each(4))
    if not kernel.owned:
        pytest.skip("this kernel has no tables that are owned and persist (Linux 6.9)")
    whole = compile_nft(one_of_each(4), NETWORK)
    run(["nft", "flush", "ruleset"], netns=world.node)
    for act in ("delete table ip", "flush chain ip", "delete chain ip"):
        words = [*act.split(), n.TABLE, *(["dispatch"] if "chain" in act else [])]
        assert run(["nft", *words], netns=world.node, check=False).returncode != 0
    assert not kernel.heard()
    assert read(kernel, whole) == whole
    kernel.close()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(["flush", "ruleset"], id="nft flush ruleset"),
        pytest.param(["delete", "table", "ip", n.TABLE], id="table deleted"),
        pytest.param(["flush", "map", "ip", n.TABLE, n.ENDPOINTS], id="a map emptied"),
        pytest.param(["flush", "chain", "ip", n.TABLE, "nat-prerouting"], id="a chain emptied"),
        pytest.param(["add", "rule", "ip", n.TABLE, "dispatch", "drop"], id="one rule too many"),
        pytest.param(["insert", "rule", "ip", n.TABLE, "dispatch", "drop"], id="a rule before ours"),
    ],
)
def test_A7_row74_P2_what_others_did_to_a_table_that_is_not_owned_is_heard_of_and_mended(
    world: World, damage: list[str]
) -> None:
    kernel = Nftables(world.node, 4, n.TABLE, owned=False)
    backend = NftBackend(kernel, NETWORK)
    backend.apply(one_of_each(4))
    whole = compile_nft(one_of_each(4), NETWORK)
    assert not kernel.heard()  # our own writing is nothing to hear of
    run(["nft", *damage], netns=world.node)
    assert read(kernel, whole) != whole or kernel.heard()
    backend = NftBackend(kernel, NETWORK)
    assert backend.apply(one_of_each(4)).written
    assert read(kernel, whole) == whole
    kernel.close()


def test_A7_row74_a_backend_hears_of_a_flush_by_itself(world: World) -> None:
    backend = NftBackend(Nftables(world.node, 4, n.TABLE, owned=False), NETWORK)
    backend.apply(one_of_each(4))
    run(["nft", "flush", "ruleset"], netns=world.node)
    assert "nftables services" in backend.drifted()
    assert backend.apply(one_of_each(4)).written
    assert backend.apply(one_of_each(4)) == Applied()
    backend.close()


def test_A7_row77_tables_of_others_stay_and_are_no_business_of_ours(world: World) -> None:
    run(["nft", "add", "table", "ip", "theirs"], netns=world.node)
    backend = NftBackend(Nftables(world.node, 4, n.TABLE), NETWORK)
    backend.apply(one_of_each(4))
    run(["nft", "add", "chain", "ip", "theirs", "c"], netns=world.node)
    assert backend.apply(one_of_each(4)) == Applied()  # read again by nobody
    backend.apply(())
    assert "chain c" in run(["nft", "list", "table", "ip", "theirs"], netns=world.node).stdout.decode()
    backend.close()


def test_P3_a_table_of_a_living_process_is_not_taken_away(world: World) -> None:
    first = Nftables(world.node, 4, n.TABLE)
    NftBackend(first, NETWORK).apply(one_of_each(4))
    if not first.owned:
        pytest.skip("this kernel has no tables that are owned and persist (Linux 6.9)")
    second = Nftables(world.node, 4, n.TABLE)
    with pytest.raises(NetlinkError, match=f"table {n.TABLE}"):
        NftBackend(second, NETWORK).apply(())
    first.close()
    assert NftBackend(second, NETWORK).apply(()).removed
    second.close()


def test_E3_14_more_elements_than_one_attribute_holds(world: World) -> None:
    ports = [
        replace(
            web(2),
            name=ServicePortName("demo", f"s{number}"),
            cluster_ip=ip_address(f"10.96.{number // 250}.{number % 250 + 1}"),
        )
        for number in range(3000)
    ]
    serving = serve(ports, Locality("here"))
    kernel = Nftables(world.node, 4, n.TABLE)
    backend = NftBackend(kernel, NETWORK)
    backend.apply(serving)
    want = compile_nft(serving, NETWORK)
    assert read(kernel, want) == want
    assert backend.apply(serving) == Applied()
    missing = {n.CLUSTER_IPS: {bytes([10, 96, 99, number]): b"" for number in range(250)}}
    taken = {**compile_nft(serving, NETWORK).contents(n.CLUSTER_IPS), **missing[n.CLUSTER_IPS]}
    with pytest.raises(NftRefused, match=r"delete 10\.96\.99\.0: "):  # deep inside a chunk
        kernel.commit(RulesetChange(elements_out={n.CLUSTER_IPS: taken}, shapes=n.sets_of(4)))
    kernel.close()
