"""Keeps the rules that lead packets to us where the legacy iptables interface is in use.

It has to be asked whether somebody wrote, and a whole table as text is too much to ask for often. The few
rules that lead from the built-in chains to ours are looked at every few seconds, through python-iptables, and
put back when ``iptables -F`` has taken them; all other rules wait for the next look at everything.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from kubenet.errors import KubenetError
from kubenet.kernel.iptc_legacy import Jumps, LegacyTables
from kubenet.kernel.netns import NetNs
from kubenet.model.flavour import Flavour
from proxy.compile_iptables import FILTER_HOOKS, NAT_HOOKS
from proxy.ports import Family

log = logging.getLogger(__name__)

LOOK_S = 1.0
_JUMPS: Mapping[str, Jumps] = {"nat": NAT_HOOKS, "filter": FILTER_HOOKS}

Mended = Callable[[Family, int], None]
"""Told how many rules were put back."""


async def guard_jumps(
    netns: NetNs | None, flavour: Flavour | None, families: Sequence[Family], mended: Mended
) -> None:
    """Put the jump rules back whenever one is missing, for ever; end at once where that is not our task."""
    if flavour is not Flavour.LEGACY:
        return
    try:
        tables = {family: LegacyTables(netns, family) for family in families}
    except KubenetError as error:
        log.warning(
            "proxy: %s; jump rules that others take away are put back by the next full look only; next: %s",
            error,
            error.next_step,
        )
        return
    while True:
        await asyncio.sleep(LOOK_S)
        for family, legacy in tables.items():
            try:
                count = await asyncio.to_thread(mend, legacy)
            except KubenetError as error:
                log.warning("proxy: IPv%d: jump rules cannot be looked at: %s", family, error)
                continue
            if count:
                log.warning("proxy: IPv%d: somebody took %d jump rules away: put back", family, count)
                mended(family, count)


def mend(tables: LegacyTables) -> int:
    """Put back what is missing; return how many rules. Nothing is written if nothing is. Blocks.

    Raises KubenetError.
    """
    count = 0
    for table, jumps in _JUMPS.items():
        if tables.missing(table, jumps):  # the lock is not asked for as long as all is well
            count += len(tables.mend(table, jumps))
    return count
