"""Every name of a small cluster and what it gives, in one file to read."""

from collections.abc import Callable

from dns.wire import RType
from tests.unit.dns.world import ZONE, Cluster, endpoint, endpoint_slice, external, service

CLUSTER = (
    service("kube-system/kube-dns", "10.96.0.10", ports=("dns/UDP/53", "dns-tcp/TCP/53")),
    service("demo/web", "10.96.1.1", "fd00:96::1"),
    service("demo/db", "None"),
    endpoint_slice(
        "demo/db-1",
        "db",
        endpoint("10.244.1.2", hostname="db-0"),
        endpoint("10.244.2.2"),
        ports=("pg/TCP/5432",),
    ),
    external("demo/mirror", f"web.demo.svc.{ZONE}"),
    external("demo/docs", "docs.example.com"),
)

ASKED = (
    ("", "SOA NS A"),
    ("dns-version", "TXT A"),
    ("ns.dns", "A"),
    ("dns", "A"),
    ("svc", "A"),
    ("demo.svc", "A"),
    ("web.demo.svc", "A AAAA SRV TXT ANY"),
    ("_http._tcp.web.demo.svc", "SRV A"),
    ("_tcp.web.demo.svc", "SRV"),
    ("_https._tcp.web.demo.svc", "SRV"),
    ("kube-dns.kube-system.svc", "A SRV"),
    ("db.demo.svc", "A AAAA SRV"),
    ("db-0.db.demo.svc", "A SRV"),
    ("10-244-2-2.db.demo.svc", "A"),
    ("_pg._tcp.db.demo.svc", "SRV"),
    ("mirror.demo.svc", "A SRV CNAME"),
    ("docs.demo.svc", "A"),
    ("none.demo.svc", "A"),
    ("web.none.svc", "A"),
    ("10-1-2-3.demo.pod", "A AAAA"),
    ("web.demo.svc.cluster.local.demo.svc", "A"),
)
REVERSE = ("1.1.96.10.in-addr.arpa", "2.1.244.10.in-addr.arpa", "9.9.9.9.in-addr.arpa", "96.10.in-addr.arpa")


def test_what_a_cluster_answers(golden: Callable[[str, str], None]) -> None:
    cluster = Cluster(*CLUSTER)
    wanted = [
        (f"{name}.{ZONE}".lstrip("."), RType[rtype]) for name, types in ASKED for rtype in types.split()
    ]
    wanted += [(name, RType.PTR) for name in REVERSE]
    golden("dns_cluster.txt", "".join(told(cluster, name, rtype) for name, rtype in wanted))


def told(cluster: Cluster, name: str, rtype: RType) -> str:
    reply = cluster.ask(name, rtype)
    lines = [f"; {name} {rtype.name}: {reply.status}", *reply.answers]
    lines += [f"authority: {line}" for line in reply.authority]
    lines += [f"additional: {line}" for line in reply.additional]
    return "\n".join(lines) + "\n\n"
