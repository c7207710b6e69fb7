"""Names as pods look them up: what the conformance suite's [sig-network] DNS cases ask, with dig in a pod."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import kubenet, lab, own

pytestmark = pytest.mark.e2e

NAMESPACE = "dns-8152"
DOMAIN = "cluster.local"
PATIENCE_S = 30.0

MANIFEST = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
# headless, and with a cluster address, for the same pod
apiVersion: v1
kind: Service
metadata: {{name: dns-test-service, namespace: {NAMESPACE}}}
spec:
  clusterIP: None
  selector: {{dns-test: "true"}}
  ports: [{{name: http, port: 80, protocol: TCP}}]
---
apiVersion: v1
kind: Service
metadata: {{name: test-service-2, namespace: {NAMESPACE}}}
spec:
  selector: {{dns-test: "true"}}
  ports: [{{name: http, port: 80, protocol: TCP}}]
---
# names of single pods: hostname and subdomain
apiVersion: v1
kind: Service
metadata: {{name: dns-test-service-2, namespace: {NAMESPACE}}}
spec:
  clusterIP: None
  selector: {{dns-test-hostname-attribute: "true"}}
---
apiVersion: v1
kind: Service
metadata: {{name: dns-test-service-3, namespace: {NAMESPACE}}}
spec: {{type: ExternalName, externalName: foo.example.com}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: {NAMESPACE}, labels: {{dns-test: "true"}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: idle, image: kubenet.dev/idle}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: dns-querier
  namespace: {NAMESPACE}
  labels: {{dns-test-hostname-attribute: "true"}}
spec:
  hostname: dns-querier-2
  subdomain: dns-test-service-2
  terminationGracePeriodSeconds: 1
  containers: [{{name: idle, image: kubenet.dev/idle}}]
"""


class Cluster:
    """A lab with the pods and Services that the suite makes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def apply(self, manifest: str) -> None:
        kubenet("apply", "--name", self.name, "-f", "-", input=manifest)

    def inside(self, script: str) -> str:
        """Return what a shell in the querying pod prints."""
        pod = f"{NAMESPACE}/dns-querier"
        return kubenet("lab", "exec", "--name", self.name, pod, "--", "sh", "-c", script, check=False).stdout

    def eventually(self, script: str, want: str) -> None:
        """Wait until a shell in the querying pod prints ``want``."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.inside(script).strip()) != want:
            assert time.monotonic() < deadline, f"{script}: {found!r}, not {want!r}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with lab(own("dns"), "--nodes", "2") as name:
        made = Cluster(name)
        made.apply(MANIFEST)
        made.eventually("dig +notcp +noall +answer +search dns-test-service A | wc -l", "1")
        made.eventually("dig +notcp +noall +answer +search dns-test-service-2 A | wc -l", "1")
        yield made


def answers(cluster: Cluster, *asked: str) -> dict[str, bool]:
    """Return for each question to dig whether anything came back, as the suite's probes do."""
    script = "; ".join(
        f"test -n \"$(dig +noall +answer +search {each})\" && echo 'OK {each}' || echo 'NO {each}'"
        for each in asked
    )
    lines = cluster.inside(script).splitlines()
    return {line[3:]: line.startswith("OK") for line in lines}


def over_both(*names: str) -> list[str]:
    return [f"{way} {name}" for name in names for way in ("+notcp", "+tcp")]


def all_found(cluster: Cluster, names: list[str]) -> None:
    assert answers(cluster, *names) == dict.fromkeys(names, True)


def test_conformance_dns_for_the_cluster(cluster: Cluster) -> None:
    all_found(
        cluster,
        over_both(f"kubernetes.default.svc.{DOMAIN} A", "kubernetes.default A", "kubernetes.default.svc A"),
    )


def test_conformance_dns_for_services(cluster: Cluster) -> None:
    names = [f"{each}.{NAMESPACE}.svc.{DOMAIN} A" for each in ("dns-test-service", "test-service-2")]
    names += [
        f"_http._tcp.{each}.{NAMESPACE}.svc.{DOMAIN} SRV" for each in ("dns-test-service", "test-service-2")
    ]
    all_found(cluster, over_both(*names))
    cluster_ip = cluster.inside(f"dig +short test-service-2.{NAMESPACE}.svc.{DOMAIN}").strip()
    pod_ip = cluster.inside(f"dig +short dns-test-service.{NAMESPACE}.svc.{DOMAIN}").strip()
    pointers = cluster.inside(f"dig +short -x {cluster_ip}; dig +tcp +short -x {pod_ip}").split()
    dashed = pod_ip.replace(".", "-")
    # The pod is in both Services, and has a pointer for each.
    assert sorted(pointers) == sorted(
        f"{label}.{NAMESPACE}.svc.{DOMAIN}."
        for label in ("test-service-2", f"{dashed}.dns-test-service", f"{dashed}.test-service-2")
    )


def test_conformance_partial_names_through_the_search_path(cluster: Cluster) -> None:
    partial = ["dns-test-service", f"dns-test-service.{NAMESPACE}", f"dns-test-service.{NAMESPACE}.svc"]
    partial += ["test-service-2", f"test-service-2.{NAMESPACE}", f"test-service-2.{NAMESPACE}.svc"]
    names = [f"{name} A" for name in partial]
    names += [f"_http._tcp.{each}.{NAMESPACE}.svc SRV" for each in ("dns-test-service", "test-service-2")]
    all_found(cluster, over_both(*names))


def test_conformance_a_record_of_a_pod(cluster: Cluster) -> None:
    name = f'"$(hostname -i | tr . -).{NAMESPACE}.pod.{DOMAIN}"'
    for way in ("+notcp", "+tcp"):
        found = cluster.inside(f"hostname -i; dig {way} +noall +short +search {name} A").split()
        assert found[0] == found[1]


def test_conformance_pods_of_a_subdomain(cluster: Cluster) -> None:
    names = [
        f"dns-querier-2.dns-test-service-2.{NAMESPACE}.svc.{DOMAIN} A",
        f"dns-test-service-2.{NAMESPACE}.svc A",
    ]
    all_found(cluster, over_both(*names, "dns-querier-2.dns-test-service-2 A"))
    own_ip, by_name, short = cluster.inside(
        f"hostname -i; getent hosts dns-querier-2.dns-test-service-2.{NAMESPACE}.svc.{DOMAIN} | cut -d' ' -f1"
        "; getent hosts dns-querier-2 | cut -d' ' -f1"
    ).split()
    assert own_ip == by_name == short


def test_conformance_etc_hosts_is_the_kubelets_alone(cluster: Cluster) -> None:
    lines = cluster.inside("cat /etc/hosts").splitlines()
    assert lines[0] == "# Written by the node agent."
    assert any("dns-querier-2" in line for line in lines)


def test_conformance_external_names_change_on_a_live_service(cluster: Cluster) -> None:
    name = f"dns-test-service-3.{NAMESPACE}.svc.{DOMAIN}"
    cluster.eventually(f"dig +short {name} CNAME", "foo.example.com.")
    metadata = f"{{name: dns-test-service-3, namespace: {NAMESPACE}}}"
    service = f"apiVersion: v1\nkind: Service\nmetadata: {metadata}\nspec: "
    cluster.apply(service + "{type: ExternalName, externalName: bar.example.com}")
    cluster.eventually(f"dig +short {name} CNAME", "bar.example.com.")
    cluster.eventually(f"dig +tcp +short {name} CNAME", "bar.example.com.")
    spec = {
        "type": "ClusterIP",
        "externalName": None,
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }
    cluster.apply(service + json.dumps(spec))
    cluster.eventually(f"dig +short {name} A | grep -c '^10\\.'", "1")
    assert cluster.inside(f"dig +short {name} CNAME").strip() == ""


def test_A14_denied_names_end_a_search_at_once(cluster: Cluster) -> None:
    script = "; ".join(
        f"dig +noall +comments {name} A | grep -o 'status: [A-Z]*'"
        for name in (f"none.{NAMESPACE}.svc.{DOMAIN}", f"none.none.svc.{DOMAIN}", f"{NAMESPACE}.svc.{DOMAIN}")
    )
    assert cluster.inside(script).split()[1::2] == ["NXDOMAIN", "NXDOMAIN", "NOERROR"]
