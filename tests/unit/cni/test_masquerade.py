"""The packet filter of a node's pod network."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

from cni.masquerade import Surroundings, compile_tables, is_ours, withdrawal
from kubenet.model.iptables import first_write, render_restore
from kubenet.model.iptables_save import SavedTable, read_save, write_between

AROUND = Surroundings(
    (ip_network("10.244.1.0/24"), ip_network("fd00:1::/64")),
    (ip_network("10.244.0.0/16"), ip_network("fd00::/16")),
    (ip_network("10.96.0.0/16"),),
    8472,
)


def test_the_rules_are_as_they_were(golden: Callable[[str, str], None]) -> None:
    text = render_restore([first_write(table) for table in compile_tables(AROUND, 4)])
    golden("cni_masquerade_v4.txt", text)
    text = render_restore([first_write(table) for table in compile_tables(AROUND, 6)], 6)
    golden("cni_masquerade_v6.txt", text)


def test_with_a_bridge_pods_come_in_by_the_bridge_and_the_tunnel(golden: Callable[[str, str], None]) -> None:
    around = replace(AROUND, pod_ifnames=("cni0", "kubenet.1"))
    golden("cni_masquerade_bridge.txt", render_restore([first_write(t) for t in compile_tables(around, 4)]))


def test_a_node_without_pods_of_a_family_wants_nothing_of_it() -> None:
    assert compile_tables(replace(AROUND, pod_cidrs=AROUND.pod_cidrs[:1]), 6) == ()


def test_ranges_that_need_no_translation_come_before_it() -> None:
    plain = (ip_network("192.168.0.0/16"), ip_network("fd12::/16"))
    nat = compile_tables(replace(AROUND, plain_cidrs=plain), 4)[0]
    lines = [rule.text(4) for rule in nat.chains["KUBENET-POSTROUTING"]]
    assert lines.index("-d 192.168.0.0/16 -j RETURN") < lines.index(
        "-s 10.244.1.0/24 -j MASQUERADE --random-fully"
    )
    assert not [line for line in lines if "fd12" in line]
    everything = compile_tables(replace(AROUND, plain_cidrs=(ip_network("0.0.0.0/0"),)), 4)[0]
    assert everything.chains == {"KUBENET-POSTROUTING": ()}


def test_what_was_written_can_be_taken_out_again() -> None:
    for table in compile_tables(AROUND, 4):
        (hook,) = table.hooks.values()
        (chain,) = table.hooks
        (own,) = table.chains
        saved = SavedTable({chain: [hook[0].text(4), "-j SOMEBODYS"], own: []})
        write = withdrawal(table.name, saved)
        assert list(write.removed) == [own]
        assert list(write.withdrawn) == [(chain, hook[0])]
        assert not withdrawal(table.name, SavedTable({chain: ["-j SOMEBODYS"]}))


def test_chains_of_others_are_not_ours() -> None:
    assert is_ours("KUBENET-FORWARD")
    assert not is_ours("KUBE-FORWARD")
    assert not is_ours("KUBENET-SOMETHING")


def test_what_was_written_needs_no_second_writing() -> None:
    for table in compile_tables(AROUND, 4):
        saved = read_save(
            render_restore([first_write(table)])
            .replace("-I POSTROUTING 1", "-A POSTROUTING")
            .replace("-I FORWARD 1", "-A FORWARD")
            .replace("-I PREROUTING 1", "-A PREROUTING")
        )
        assert not write_between(saved[table.name], table, is_ours)


def test_pods_of_one_node_keep_their_addresses_also_without_a_range_of_the_cluster() -> None:
    nat = compile_tables(replace(AROUND, cluster_cidrs=()), 4)[0]
    lines = [rule.text(4) for rule in nat.chains["KUBENET-POSTROUTING"]]
    assert lines.index("-d 10.244.1.0/24 -j RETURN") < lines.index(
        "-s 10.244.1.0/24 -j MASQUERADE --random-fully"
    )
