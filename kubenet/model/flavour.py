"""The two kernel interfaces behind the program iptables. *Pure.*

Source: xtables-nft(8), xtables-legacy(8).
"""

from enum import Enum


class Flavour(Enum):
    """Which of them; spelled as ``iptables --version`` spells it."""

    NFT = "nf_tables"
    LEGACY = "legacy"

    @property
    def infix(self) -> str:
        """What the names of its programs have between ``iptables`` and the verb."""
        return "-nft" if self is Flavour.NFT else "-legacy"
