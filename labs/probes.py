"""Try things from inside pods, many at once: HTTP requests and DNS questions.

A probe's sockets are opened in the pod's namespace and used from here, so nothing has to be started in the
pod. A name is resolved as the pod would: its own servers, its own search path.
"""

import http.client
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, ip_address

import msgspec

from dns.client import Server, query
from kubenet.client.sync import SyncClient
from kubenet.errors import KubenetError, NotFound
from kubenet.kernel.netns import NetNs
from kubenet.model.objects import Pod
from kubenet.model.resources import PODS
from labs.exercise import Dns, Http, Probe, Ready
from labs.places import Places
from labs.stage import NAMESPACE

# A lab's packets travel a few microseconds; what has not come by then will not.
TIMEOUT_S = 0.5
AT_ONCE = 24


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one probe."""

    probe: Probe
    failure: str = ""  # empty: all went well

    @property
    def ok(self) -> bool:
        return not self.failure


class _Seen(msgspec.Struct, frozen=True):
    client: str


class Prober:
    """Runs probes in one lab."""

    def __init__(self, places: Places, client: SyncClient) -> None:
        self._places = places
        self._client = client

    def run(self, probes: Iterable[Probe]) -> list[Outcome]:
        """Return what became of each probe, in their order."""
        tries = [(probe, number) for probe in probes for number in range(_times(probe))]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            failures = list(pool.map(self._try, (probe for probe, _ in tries)))
        first: dict[int, Outcome] = {}
        for (probe, _), failure in zip(tries, failures, strict=True):
            known = first.setdefault(id(probe), Outcome(probe, failure))
            if known.ok and failure:
                first[id(probe)] = Outcome(probe, failure)
        return list(first.values())

    def _try(self, probe: Probe) -> str:
        """Return what went wrong, or an empty text."""
        try:
            match probe:
                case Http():
                    return self._http(probe)
                case Dns():
                    self._addresses(probe.source, probe.name, probe.tcp, probe.port)
                case Ready():
                    return self._ready(probe.pod)
        except (KubenetError, OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        return ""

    def _http(self, probe: Http) -> str:
        host, _, port = probe.to.rpartition(":")
        address = host if _is_address(host) else self._addresses(probe.source, host)[0]
        with (
            self._places.netns(probe.source) as netns,
            netns.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            tcp.settimeout(TIMEOUT_S)
            tcp.connect((address, int(port)))
            connection = http.client.HTTPConnection(address, int(port))
            connection.sock = tcp
            connection.request("GET", probe.path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
        if response.status != 200:
            return f"HTTP status {response.status}"
        if probe.client and (seen := msgspec.json.decode(body, type=_Seen).client) != probe.client:
            return f"the server sees {seen} ask, not {probe.client}"
        return ""

    def _addresses(self, pod: str, name: str, tcp: bool = False, port: int = 0) -> Sequence[str]:
        servers, searched = _resolver(self._places.file(f"{pod}:resolv.conf").read_text())
        if not servers:
            raise NotFound(f"{pod}: resolv.conf names no server")
        tried = [name] if name.endswith(".") else [*(f"{name}.{domain}" for domain in searched), name]
        with self._places.netns(pod) as netns:
            for full in tried:
                asked = query(
                    full,
                    server=servers[0],
                    tcp=tcp,
                    timeout_s=TIMEOUT_S,
                    open_socket=partial(_opened, netns, port),
                )
                if found := [record.content for record in asked.answers if record.type == "A"]:
                    return found
        raise NotFound(f"{name}: no address ({asked.status})")

    def _ready(self, name: str) -> str:
        pod = self._client.get(PODS, NAMESPACE, name, Pod)
        return "" if pod.ready else f"pod {name} is {pod.status.phase}, not ready"


def _opened(netns: NetNs, port: int, family: int, kind: int) -> socket.socket:
    opened = netns.socket(family, kind)
    if port:
        opened.bind(("", port))
    return opened


def _times(probe: Probe) -> int:
    return 1 if isinstance(probe, Ready) else probe.times


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _resolver(text: str) -> tuple[list[Server], list[str]]:
    """Return the servers and the search path that a resolv.conf names."""
    words = [line.split() for line in text.splitlines() if line.strip()]
    servers = [Server(IPv4Address(line[1])) for line in words if line[0] == "nameserver" and len(line) > 1]
    searched = [domain for line in words if line[0] == "search" for domain in line[1:]]
    return servers, searched
