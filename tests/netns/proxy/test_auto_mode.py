"""Which mode is chosen where nobody says."""

import pytest

from kubenet.kernel import nft
from kubenet.kernel.netlink import NetlinkError
from kubenet.model.nft_change import RulesetChange
from proxy.auto_mode import best_mode
from proxy.backend import ProxyMode

pytestmark = pytest.mark.netns


def test_nftables_where_the_kernel_can() -> None:
    assert best_mode() == (ProxyMode.NFTABLES, "")


def test_iptables_where_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without one of the expressions refuses the rule that has it."""

    def refuse(_kernel: nft.Nftables, _change: RulesetChange) -> None:
        raise NetlinkError(2, "chain pick-vip-cluster-2 rule 1")

    monkeypatch.setattr(nft.Nftables, "commit", refuse)
    mode, why = best_mode()
    assert mode is ProxyMode.IPTABLES
    assert "pick-vip-cluster-2" in why
