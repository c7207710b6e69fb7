"""Read what the kernel holds in a place."""

from collections.abc import Collection, Iterable
from pathlib import Path

from kubenet.errors import KubenetError, NotFound, ProgramMissing
from kubenet.kernel import sysctl
from kubenet.kernel.netns import NetNs
from kubenet.kernel.policy import routes_that_stop, rules_beside_the_usual
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import find, run
from kubenet.observe.place import Place
from kubenet.observe.state import PlaceState, PolicyRule

SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.bridge.bridge-nf-call-iptables",
)


def place_state(place: Place, *, rules: bool = False) -> PlaceState:
    """Return what one place holds; its netfilter rules only if asked for, since that starts programs."""
    with Rtnl(place.netns) as rtnl:
        links = rtnl.observe()
        policy = tuple(PolicyRule(*told) for told in rules_beside_the_usual(rtnl))
        stops = tuple(routes_that_stop(rtnl))
    sysctls = {key: value for key in SYSCTLS if (value := _setting(place.netns, key)) is not None}
    nft, iptables, legacy = rule_texts(place.netns) if rules else ("", "", "")
    return PlaceState(place.name, links, sysctls, policy, nft, iptables, legacy, stops)


def states_of(places: Iterable[Place], *, rules: Collection[str] = ()) -> dict[str, PlaceState]:
    """Return what places hold, by name; of those in ``rules``, their netfilter rules too."""
    return {p.name.name: place_state(p, rules=p.name.name in rules) for p in places}


def rule_texts(netns: NetNs) -> tuple[str, str, str]:
    """Return the rules as nft, iptables over nftables, and legacy iptables print them."""
    nft = _printed(["nft", "-a", "list", "ruleset"], netns)
    over_nft = _printed(["iptables-nft-save"], netns) if "iptables" in nft or "table ip nat" in nft else ""
    old = _printed(["iptables-legacy-save"], netns) if uses_legacy(netns) else ""
    return nft, over_nft, old


def uses_legacy(netns: NetNs) -> bool:
    """Whether the namespace has tables of legacy iptables."""
    with netns.entered():
        try:
            return bool(Path("/proc/thread-self/net/ip_tables_names").read_text().strip())
        except OSError:
            return False


def ifnames_of(place: Place) -> dict[int, str]:
    """Return the names of a place's interfaces by number."""
    with Rtnl(place.netns) as rtnl:
        return {entry.index: ifname for ifname, entry in rtnl.links().items()}


def _setting(netns: NetNs, key: str) -> str | None:
    try:
        return sysctl.read(netns, key)
    except NotFound:
        return None


def _printed(argv: list[str], netns: NetNs) -> str:
    """Return what a program prints; nothing if it is not installed or fails: then nothing can be told."""
    try:
        find(argv[0])
        return run(argv, netns=netns).stdout.decode(errors="replace")
    except (ProgramMissing, KubenetError):
        return ""
