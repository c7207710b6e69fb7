"""The objects every lab starts with."""

import msgspec

from kubenet.model.objects import EndpointSlice, Service
from labs.base import base_objects
from labs.topology import LabSpec, topology


def test_the_dns_service_is_served_by_every_node() -> None:
    spec = LabSpec("t", nodes=3)
    objects = base_objects(spec, topology(spec).nodes)
    service = msgspec.convert(objects[0][1], type=Service)
    dns = msgspec.convert(objects[1][1], type=EndpointSlice)
    assert service.spec.cluster_ip == "10.96.0.10"
    assert dns.service_key == service.metadata.key == "kube-system/kube-dns"
    assert [(e.addresses, e.node_name) for e in dns.endpoints or ()] == [
        (("172.30.0.1",), "node-1"),
        (("172.30.0.2",), "node-2"),
        (("172.30.0.3",), "node-3"),
    ]
    ports = {(port.name, port.protocol, port.port) for port in dns.ports or ()}
    assert ports == {(port.name, port.protocol, port.port) for port in service.spec.ports}


def test_pods_find_the_api_server() -> None:
    spec = LabSpec("t")
    api = msgspec.convert(base_objects(spec, topology(spec).nodes)[2][1], type=EndpointSlice)
    assert api.service_key == "default/kubernetes"
    assert (api.endpoints or ())[0].addresses == ("172.30.255.254",)
