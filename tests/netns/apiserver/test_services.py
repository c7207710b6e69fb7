"""Services: addresses, node ports, defaults, and what may not change."""

import asyncio
from ipaddress import IPv4Address, IPv4Network

import pytest

from kubenet.apiserver.http import ServerConfig
from kubenet.store.memory import MemoryStore
from tests.netns.apiserver.server import SERVICES, Api, Value, on_server, service, serving


def test_B3_15_a_service_gets_an_address_and_its_defaults() -> None:
    async def case(api: Api) -> None:
        spec = (await api.post(SERVICES, service("web", selector={"app": "web"}))).ok["spec"]
        address = spec["clusterIP"]
        assert IPv4Address(address) in IPv4Network("10.96.0.0/16")
        assert spec == {
            "clusterIP": address,
            "clusterIPs": [address],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "selector": {"app": "web"},
            "sessionAffinity": "None",
            "type": "ClusterIP",
        }

    on_server(case)


def test_the_cluster_has_its_own_service_at_the_first_address() -> None:
    async def case(api: Api) -> None:
        spec = (await api.get(f"{SERVICES}/kubernetes")).ok["spec"]
        assert (spec["clusterIP"], spec["ports"][0]["targetPort"]) == ("192.168.0.1", 6443)
        namespaces = (await api.get("/api/v1/namespaces")).ok["items"]
        names = [item["metadata"]["name"] for item in namespaces]
        assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]

    cidr = IPv4Network("192.168.0.0/24")
    on_server(case, ServerConfig(service_cidr=cidr, advertised_port=6443))


def test_B3_15_an_address_is_given_once_even_to_many_at_once() -> None:
    async def case(api: Api) -> None:
        replies = await asyncio.gather(*(api.post(SERVICES, service(f"s{index}")) for index in range(60)))
        addresses = [reply.ok["spec"]["clusterIP"] for reply in replies]
        assert len(set(addresses)) == 60
        wanted = (api.post(SERVICES, service(f"w{index}", clusterIP="10.96.0.77")) for index in range(5))
        taken = await asyncio.gather(*wanted)
        assert sorted(reply.status for reply in taken) == [201] + [422] * 4
        refusal = next(reply for reply in taken if reply.status == 422)
        assert "provided IP is already allocated" in refusal.refused(422, "Invalid")

    on_server(case)


def test_B3_15_the_address_of_the_cluster_dns_is_only_for_who_asks_for_it() -> None:
    async def case(api: Api) -> None:
        # 14 usable addresses: .1 is the API's, .10 is kept, so 12 can be given out.
        replies = [await api.post(SERVICES, service(f"s{index}")) for index in range(13)]
        assert [reply.status for reply in replies] == [201] * 12 + [422]
        assert "range is full" in replies[-1].refused(422, "Invalid")
        given = {reply.ok["spec"]["clusterIP"] for reply in replies[:-1]}
        assert given == {f"10.9.0.{last}" for last in range(2, 15)} - {"10.9.0.10"}
        assert (await api.post(SERVICES, service("dns", clusterIP="10.9.0.10"))).status == 201

    on_server(case, ServerConfig(service_cidr=IPv4Network("10.9.0.0/28")))


def test_B3_15_a_deleted_service_gives_its_address_back() -> None:
    async def case(api: Api) -> None:
        wanted = service("a", clusterIP="10.96.0.77")
        await api.post(SERVICES, wanted)
        await api.delete(f"{SERVICES}/a")
        assert (await api.post(SERVICES, wanted | {"metadata": {"name": "b"}})).status == 201

    on_server(case)


def test_B3_15_a_refused_service_gives_its_address_back() -> None:
    async def case(api: Api) -> None:
        refused = service("a", clusterIP="10.96.0.77", ports=[{"port": 0}])
        (await api.post(SERVICES, refused)).refused(422, "Invalid")
        assert (await api.post(SERVICES, service("b", clusterIP="10.96.0.77"))).status == 201
        taken = service("b", clusterIP="10.96.0.78")
        (await api.post(SERVICES, taken)).refused(409, "AlreadyExists")
        assert (await api.post(SERVICES, service("c", clusterIP="10.96.0.78"))).status == 201

    on_server(case)


def test_B3_15_addresses_are_known_after_a_restart() -> None:
    async def run() -> None:
        store = MemoryStore()
        async with serving(store) as api:
            first = (await api.post(SERVICES, service("a"))).ok["spec"]["clusterIP"]
        async with serving(store) as api:
            assert (await api.post(SERVICES, service("b"))).ok["spec"]["clusterIP"] != first
            refused = await api.post(SERVICES, service("c", clusterIP=first))
            assert "already allocated" in refused.refused(422, "Invalid")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"clusterIP": "10.97.0.1"}, "spec.clusterIPs", id="an address out of the range"),
        pytest.param({"clusterIP": "010.96.0.9"}, "spec.clusterIPs[0]", id="a leading zero"),
        pytest.param({"clusterIP": "::ffff:10.96.0.9"}, "spec.clusterIPs[0]", id="an IPv4-mapped address"),
        pytest.param({"clusterIP": "web"}, "spec.clusterIPs[0]", id="no address"),
        pytest.param({"ports": []}, "spec.ports", id="no ports"),
        pytest.param({"ports": [{"port": 0}]}, "spec.ports[0].port", id="port 0"),
        pytest.param({"ports": [{"port": 65536}]}, "spec.ports[0].port", id="port 65536"),
        pytest.param(
            {"ports": [{"port": 80, "protocol": "ICMP"}]}, "spec.ports[0].protocol", id="unknown protocol"
        ),
        pytest.param(
            {"ports": [{"port": 80, "targetPort": "-"}]}, "spec.ports[0].targetPort", id="a bad port name"
        ),
        pytest.param(
            {"ports": [{"port": 80, "targetPort": 70000}]}, "spec.ports[0].targetPort", id="target 70000"
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "a"}, {"port": 81}]},
            "spec.ports[1].name",
            id="a port without name",
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            "spec.ports[1].name",
            id="the same name twice",
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]},
            "spec.ports[1]",
            id="the same port twice",
        ),
        pytest.param({"type": "Magic"}, "spec.type", id="unknown type"),
        pytest.param({"type": "ExternalName"}, "spec.externalName", id="an external name without name"),
        pytest.param({"sessionAffinity": "Cookie"}, "spec.sessionAffinity", id="unknown affinity"),
        pytest.param(
            {
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 100_000}},
            },
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            id="affinity for more than a day",
        ),
        pytest.param({"externalIPs": ["127.0.0.1"]}, "spec.externalIPs[0]", id="loopback as external IP"),
        pytest.param(
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "spec.ports[0].nodePort",
            id="a node port out of the range",
        ),
    ],
)
def test_A6_a_service_that_cannot_work_is_refused(spec: Value, field: str) -> None:
    async def case(api: Api) -> None:
        reply = await api.post(SERVICES, service("web", **spec))
        reply.refused(422, "Invalid")
        assert [cause["field"] for cause in reply.json["details"]["causes"]] == [field]

    on_server(case)


def test_B3_4_the_address_of_a_service_does_not_change() -> None:
    async def case(api: Api) -> None:
        path = f"{SERVICES}/web"
        made = (await api.post(SERVICES, service("web"))).ok
        address = made["spec"]["clusterIP"]
        moved = await api.patch(path, {"spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}})
        assert "field is immutable" in moved.refused(422, "Invalid")
        # The address that was refused is free, and a replace that leaves its own out keeps it.
        assert (await api.post(SERVICES, service("b", clusterIP="10.96.0.77"))).status == 201
        replaced = (await api.put(path, service("web", ports=[{"port": 81}]))).ok
        assert replaced["spec"]["clusterIP"] == address
        assert replaced["spec"]["ports"] == [{"port": 81, "protocol": "TCP", "targetPort": 81}]

    on_server(case)


def test_B3_15_headless_and_external_services_have_no_address() -> None:
    async def case(api: Api) -> None:
        headless = (await api.post(SERVICES, service("a", clusterIP="None"))).ok["spec"]
        assert (headless["clusterIP"], headless["clusterIPs"]) == ("None", ["None"])
        no_ports = {"metadata": {"name": "b"}, "spec": {"clusterIP": "None"}}
        assert (await api.post(SERVICES, no_ports)).status == 201
        external = {
            "metadata": {"name": "c"},
            "spec": {"type": "ExternalName", "externalName": "example.org"},
        }
        assert "clusterIP" not in (await api.post(SERVICES, external)).ok["spec"]

    on_server(case)


def test_B3_15_a_service_changes_its_type() -> None:
    async def case(api: Api) -> None:
        path = f"{SERVICES}/web"
        address = (await api.post(SERVICES, service("web"))).ok["spec"]["clusterIP"]
        open_ = (await api.patch(path, {"spec": {"type": "NodePort"}})).ok["spec"]
        node_port = open_["ports"][0]["nodePort"]
        assert 30000 <= node_port <= 32767
        assert open_["externalTrafficPolicy"] == "Cluster"
        other = service("other", type="NodePort", ports=[{"port": 80, "nodePort": node_port}])
        assert "already allocated" in (await api.post(SERVICES, other)).refused(422, "Invalid")
        again = (await api.patch(path, {"metadata": {"labels": {"a": "b"}}})).ok["spec"]
        assert again["ports"][0]["nodePort"] == node_port
        closed = (await api.patch(path, {"spec": {"type": "ClusterIP"}})).ok["spec"]
        assert "nodePort" not in closed["ports"][0]
        assert "externalTrafficPolicy" not in closed
        assert (await api.post(SERVICES, other)).status == 201
        name = {"spec": {"type": "ExternalName", "externalName": "example.org"}}
        assert "clusterIP" not in (await api.patch(path, name)).ok["spec"]
        assert (await api.post(SERVICES, service("heir", clusterIP=address))).status == 201
        back = {"spec": {"type": "ClusterIP", "externalName": None}}
        assert (await api.patch(path, back)).ok["spec"]["clusterIP"] != address

    on_server(case)


def test_B3_15_both_protocols_of_one_port_share_their_node_port() -> None:
    async def case(api: Api) -> None:
        ports = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]
        spec = (await api.post(SERVICES, service("dns", type="NodePort", ports=ports))).ok["spec"]
        assert spec["ports"][0]["nodePort"] == spec["ports"][1]["nodePort"]
        assert (await api.delete(f"{SERVICES}/dns")).status == 200

    on_server(case)


def test_B3_15_a_load_balancer_with_local_policy_has_a_port_for_health_checks() -> None:
    async def case(api: Api) -> None:
        ports = [{"port": 80}]
        local = service("lb", type="LoadBalancer", externalTrafficPolicy="Local", ports=ports)
        spec = (await api.post(SERVICES, local)).ok["spec"]
        number = spec["healthCheckNodePort"]
        assert 30000 <= number <= 32767
        assert number != spec["ports"][0]["nodePort"]
        replaced = (await api.put(f"{SERVICES}/lb", local)).ok["spec"]
        assert replaced["healthCheckNodePort"] == number
        asked = service("other", type="NodePort", ports=[{"port": 80, "nodePort": number}])
        assert "already allocated" in (await api.post(SERVICES, asked)).refused(422, "Invalid")
        shared = service("lb", type="LoadBalancer", externalTrafficPolicy="Cluster", ports=ports)
        assert "healthCheckNodePort" not in (await api.put(f"{SERVICES}/lb", shared)).ok["spec"]
        assert (await api.post(SERVICES, asked)).status == 201

    on_server(case)
