"""nftables in memory: one table, changed as a whole or not at all."""

from collections.abc import Callable, Mapping

from kubenet.kernel.nlsocket import Resync
from kubenet.model.nft import Chain, Goto, Jump, Ruleset
from kubenet.model.nft_change import RulesetChange, patched
from kubenet.model.nft_fields import Set


class FakeNft:
    """A namespace's table of ours.

    ``broken`` makes the next commit fail; ``disturbed`` says that somebody else wrote. ``changes`` are the
    transactions that were carried out.
    """

    def __init__(self) -> None:
        self.table: Ruleset | None = None
        self.changes: list[RulesetChange] = []
        self.reads = 0
        self.broken = False
        self.disturbed = False

    def read(
        self, wanted: Callable[[], Mapping[str, Chain]], shape_of: Callable[[str], Set | None]
    ) -> Ruleset | None:
        self.reads += 1
        return self.table

    def commit(self, change: RulesetChange) -> None:
        if self.broken:
            self.broken = False
            raise Resync("kubenet-proxy: the kernel did not answer")
        after = patched(self.table, change)
        _check(after)
        self.table = after
        self.changes.append(change)

    def counted(self, name: str) -> dict[bytes, tuple[bytes, int]]:
        return {}

    def packets_counted(self, chain: str) -> int:
        return 0

    def heard(self) -> bool:
        said, self.disturbed = self.disturbed, False
        return said

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        return


def _check(ruleset: Ruleset) -> None:
    """Refuse what the kernel would: ways to chains that are not there."""
    for chain in ruleset.chains.values():
        for sentence in (sentence for rule in chain.rules for sentence in rule):
            if isinstance(sentence, Jump | Goto) and sentence.chain not in ruleset.chains:
                raise KeyError(sentence.chain)
    for name, kind in ruleset.sets.items():
        for value in ruleset.contents(name).values() if kind.verdicts else ():
            if value.decode() not in ruleset.chains:
                raise KeyError(value)
