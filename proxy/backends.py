"""The backend that a mode asks for, in one namespace, and being woken by what others do to its rules."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.model.flavour import Flavour
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.apply_nft import NftBackend
from proxy.backend import Backend, ProxyMode
from proxy.host_flavour import host_flavour
from proxy.nft_names import TABLE
from proxy.ports import NodeNetwork


def open_backend(mode: ProxyMode, netns: NetNs | None, network: NodeNetwork) -> Backend:
    """Return what programs the kernel of ``netns``; ``close`` it. Raises KubenetError."""
    if mode is ProxyMode.NFTABLES:
        return NftBackend(Nftables(netns, network.family, TABLE), network)
    return IptablesBackend(KernelIptables(netns, network.family, host_flavour(netns)), network)


def flavour_in_use(backends: Sequence[Backend]) -> Flavour | None:
    """Return which of iptables' interfaces ``backends`` write to; None if to neither."""
    for backend in backends:
        if isinstance(backend, IptablesBackend) and isinstance(backend.programs, KernelIptables):
            return backend.programs.flavour
    return None


@contextmanager
def woken(backends: Sequence[Backend], poke: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Poke when somebody else writes to the rules of ``backends``, where the kernel tells. Closes them.

    Yields what to call after a sync: one event wakes once, and the sync has looked at all that there were.
    """
    loop = asyncio.get_running_loop()
    telling = [backend for backend in backends if backend.fileno() >= 0]

    def hear(backend: Backend) -> None:
        loop.remove_reader(backend.fileno())
        poke()

    def listen_again() -> None:
        for backend in telling:
            loop.add_reader(backend.fileno(), hear, backend)
            if backend.disturbed:
                poke()

    with ExitStack() as undo:
        for backend in backends:
            undo.callback(backend.close)
        for backend in telling:
            undo.callback(loop.remove_reader, backend.fileno())
        yield listen_again
