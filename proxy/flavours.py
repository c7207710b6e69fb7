"""Which iptables interface this host uses, and whether rules of a service proxy are in the other one. *Pure.*

Both interfaces see every packet. A proxy that writes to the one while rules of its kind are left in the other
has two minds: endpoints that are gone go on getting connections. So the proxy writes where everybody else
on the host does, and not at all as long as the other interface holds rules of a service proxy.

kubelet leaves a hint in the interface that the host's own iptables uses; without a kubelet the interface with
more rules is the one in use.

Source: kubernetes-sigs/iptables-wrappers; Kubernetes issues 71305, 112477.
"""

from dataclasses import dataclass

from kubenet.errors import KubenetError
from kubenet.model.flavour import Flavour
from proxy.compile_iptables import is_own_chain

_HINTS = frozenset({"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"})


class SplitBrain(KubenetError):
    """Rules of a service proxy are in the iptables interface that this one does not write to."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one interface holds, all tables of both families together."""

    hinted: bool = False  # kubelet says that this is the one
    rules: int = 0
    ours: tuple[str, ...] = ()  # chains of a service proxy, sorted


def held_in(saved: str) -> Held:
    """Return what ``saved``, the output of iptables-save, holds."""
    lines = saved.splitlines()
    chains = {line[1:].split(" ", 1)[0] for line in lines if line.startswith(":")}
    ours = sorted(name for name in chains if is_own_chain(name))
    return Held(not _HINTS.isdisjoint(chains), sum(line.startswith("-A") for line in lines), tuple(ours))


def flavour_of(nft: Held, legacy: Held) -> Flavour:
    """Return which interface the host uses."""
    if nft.hinted or legacy.hinted:
        return Flavour.NFT if nft.hinted else Flavour.LEGACY
    return Flavour.LEGACY if legacy.rules > nft.rules else Flavour.NFT


def settled(nft: Held, legacy: Held) -> Flavour:
    """Return which interface to write to. Raises SplitBrain."""
    flavour = flavour_of(nft, legacy)
    other, left = (Flavour.LEGACY, legacy) if flavour is Flavour.NFT else (Flavour.NFT, nft)
    if left.ours:
        names = ", ".join(left.ours[:3]) + (", ..." if len(left.ours) > 3 else "")
        raise SplitBrain(
            f"iptables: this host uses the {flavour.value} interface, and the {other.value} one holds rules "
            f"of a service proxy ({names}): both would act on every packet",
            "end whoever writes them, then: kubenet proxy --cleanup",
        )
    return flavour
