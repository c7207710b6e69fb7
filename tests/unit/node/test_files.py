"""What a pod finds: resolv.conf, hosts, variables, its command."""

from ipaddress import ip_address

import pytest

from kubenet.model.objects import Container, ObjectMeta, Pod, PodSpec, Service, ServicePortSpec, ServiceSpec
from kubenet.node.files import hostname, hosts_file, resolv_conf, service_variables
from kubenet.node.images import ImageUnknown, argv_of, repository


def _pod(name: str = "web-1", hostname: str = "", subdomain: str = "") -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, namespace="demo"), spec=PodSpec(hostname=hostname, subdomain=subdomain)
    )


def _service(name: str, cluster_ip: str, *ports: ServicePortSpec, namespace: str = "demo") -> Service:
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=ServiceSpec(cluster_ip=cluster_ip, ports=ports),
    )


def test_resolv_conf_is_what_a_kubelet_writes_for_cluster_first() -> None:
    assert resolv_conf("demo", ip_address("10.96.0.10"), "cluster.local") == (
        "search demo.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 10.96.0.10\n"
        "options ndots:5\n"
    )


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(_pod(), "web-1", id="its own name"),
        pytest.param(_pod(hostname="db"), "db", id="the name asked for"),
        pytest.param(_pod("a" * 62 + ".b"), "a" * 62, id="cut at 63 without a trailing dot"),
    ],
)
def test_the_host_name_is_a_label(pod: Pod, expected: str) -> None:
    assert hostname(pod) == expected


def test_hosts_names_the_pod_with_its_subdomain() -> None:
    text = hosts_file(_pod(hostname="db", subdomain="mysql"), ["10.244.1.2"], "cluster.local")
    assert "10.244.1.2\tdb.mysql.demo.svc.cluster.local db\n" in text
    assert "127.0.0.1\tlocalhost\n" in text


def test_variables_tell_of_the_services_of_the_namespace() -> None:
    web = _service(
        "my-web", "10.96.0.7", ServicePortSpec(port=80, name="http"), ServicePortSpec(port=53, protocol="UDP")
    )
    others = [
        _service("headless", "None", ServicePortSpec(port=80)),
        _service("elsewhere", "10.96.0.8", ServicePortSpec(port=80), namespace="other"),
        _service("kubernetes", "10.96.0.1", ServicePortSpec(port=443, name="https"), namespace="default"),
    ]
    variables = service_variables([web, *others], "demo")
    assert variables["MY_WEB_SERVICE_HOST"] == "10.96.0.7"
    assert variables["MY_WEB_SERVICE_PORT"] == "80"
    assert variables["MY_WEB_SERVICE_PORT_HTTP"] == "80"
    assert variables["MY_WEB_PORT_53_UDP"] == "udp://10.96.0.7:53"
    assert variables["MY_WEB_PORT_80_TCP_ADDR"] == "10.96.0.7"
    assert variables["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert not any(name.startswith(("HEADLESS", "ELSEWHERE")) for name in variables)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        pytest.param("kubenet.dev/httpd", "kubenet.dev/httpd", id="no tag"),
        pytest.param("kubenet.dev/httpd:1.2", "kubenet.dev/httpd", id="tag"),
        pytest.param("registry:5000/a/b", "registry:5000/a/b", id="a port is no tag"),
        pytest.param("registry:5000/a/b:1@sha256:0", "registry:5000/a/b", id="port, tag and digest"),
    ],
)
def test_an_image_is_known_by_its_name_without_tag(image: str, name: str) -> None:
    assert repository(image) == name


def test_a_command_of_its_own_goes_before_the_image() -> None:
    images = {"i": ("from-image", "-x")}
    assert argv_of(Container(name="c", image="i:1", args=("a",)), images) == ["from-image", "-x", "a"]
    assert argv_of(Container(name="c", image="i:1", command=("own",), args=("a",)), images) == ["own", "a"]


def test_an_unknown_image_names_those_that_are_known() -> None:
    with pytest.raises(ImageUnknown, match="'nginx:1' is not known") as raised:
        argv_of(Container(name="c", image="nginx:1"), {"b": ("x",), "a": ("y",)})
    assert "a, b" in raised.value.next_step
