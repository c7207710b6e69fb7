"""Which iptables interface the proxy writes to, and when it writes to none."""

import pytest

from kubenet.model.flavour import Flavour
from proxy.flavours import Held, SplitBrain, held_in, settled

NFT, LEGACY = Flavour.NFT, Flavour.LEGACY
NOTHING = Held()


@pytest.mark.parametrize(
    ("nft", "legacy", "flavour"),
    [
        pytest.param(NOTHING, NOTHING, NFT, id="a fresh host"),
        pytest.param(NOTHING, Held(rules=3), LEGACY, id="the host's rules are legacy"),
        pytest.param(Held(rules=3), Held(rules=3), NFT, id="as many in both"),
        pytest.param(Held(hinted=True), Held(rules=30), NFT, id="kubelet says nftables"),
        pytest.param(Held(rules=30), Held(hinted=True), LEGACY, id="kubelet says legacy"),
        pytest.param(Held(hinted=True, ours=("KUBE-SVC-X",)), Held(rules=3), NFT, id="where we were before"),
        pytest.param(NOTHING, Held(rules=9, ours=("KUBE-SVC-X",)), LEGACY, id="where kube-proxy was before"),
    ],
)
def test_P12_rules_go_where_the_host_has_its_own(nft: Held, legacy: Held, flavour: Flavour) -> None:
    assert settled(nft, legacy) is flavour


@pytest.mark.parametrize(
    ("nft", "legacy", "words"),
    [
        pytest.param(
            Held(hinted=True),
            Held(rules=2, ours=("KUBE-SERVICES",)),
            "uses the nf_tables interface, and the legacy one holds rules of a service proxy (KUBE-SERVICES)",
            id="left in legacy",
        ),
        pytest.param(
            Held(rules=1, ours=("KUBE-A", "KUBE-B", "KUBE-C", "KUBE-D")),
            Held(rules=9),
            "uses the legacy interface, and the nf_tables one holds rules of a service proxy "
            "(KUBE-A, KUBE-B, KUBE-C, ...)",
            id="left in nftables",
        ),
        pytest.param(
            Held(rules=9, ours=("KUBE-SERVICES",)),
            Held(rules=2, ours=("KUBE-SERVICES",)),
            "both would act on every packet",
            id="in both",
        ),
    ],
)
def test_P12_a_split_brain_is_refused_and_says_where(nft: Held, legacy: Held, words: str) -> None:
    with pytest.raises(SplitBrain) as caught:
        settled(nft, legacy)
    assert words in caught.value.message
    assert "kubenet proxy --cleanup" in caught.value.next_step


def test_what_is_held_is_read_from_what_iptables_save_prints() -> None:
    saved = (
        "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
        "*nat\n:PREROUTING ACCEPT [1:2]\n:KUBE-SERVICES - [0:0]\n"
        ":KUBE-FIREWALL - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -j RETURN\nCOMMIT\n"
    )
    assert held_in(saved) == Held(True, 2, ("KUBE-SERVICES",))  # KUBE-FIREWALL is kubelet's
    assert held_in("") == NOTHING
