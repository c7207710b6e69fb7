"""Discovery, media types, and bodies that nobody should send."""

import asyncio
import gzip
import json
import socket
from urllib.parse import urlsplit

import pytest

from kubenet.model import wire
from kubenet.model.wire import content_of
from tests.netns.apiserver.server import (
    CONFIGMAPS,
    DEPLOYMENTS,
    JSON,
    JSON_PATCH,
    MERGE,
    NS,
    PODS,
    SERVICES,
    STRATEGIC,
    Api,
    Value,
    configmap,
    deployment,
    on_server,
)

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def test_B1_1_every_kind_is_discovered() -> None:
    async def case(api: Api) -> None:
        assert (await api.get("/api")).ok["versions"] == ["v1"]
        groups = (await api.get("/apis")).ok["groups"]
        names = [group["name"] for group in groups]
        assert {"apps", "batch", "discovery.k8s.io", "coordination.k8s.io", "policy", "autoscaling"} < set(
            names
        )
        assert len(names) == len(set(names))
        assert (await api.get("/apis/apps")).ok["preferredVersion"]["version"] == "v1"
        rights = ("authentication.k8s.io", "authorization.k8s.io", "rbac.authorization.k8s.io")
        assert {*rights, "networking.k8s.io", "node.k8s.io", "scheduling.k8s.io", "storage.k8s.io"} < set(
            names
        )
        core = (await api.get("/api/v1")).ok
        assert (core["kind"], core["groupVersion"]) == ("APIResourceList", "v1")
        pods = next(one for one in core["resources"] if one["name"] == "pods")
        assert (pods["kind"], pods["shortNames"], pods["categories"]) == ("Pod", ["po"], ["all"])
        assert (pods["namespaced"], pods["singularName"]) == (True, "pod")
        status = next(one for one in core["resources"] if one["name"] == "pods/status")
        assert status["verbs"] == ["get", "patch", "update"]
        for group in groups:
            path = f"/apis/{group['preferredVersion']['groupVersion']}"
            assert (await api.get(path)).ok["groupVersion"] == group["preferredVersion"]["groupVersion"]

    on_server(case)


def test_B1_2_subresources_name_the_kind_that_they_take() -> None:
    async def case(api: Api) -> None:
        apps = (await api.get("/apis/apps/v1")).ok["resources"]
        scale = next(one for one in apps if one["name"] == "deployments/scale")
        assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
        core = (await api.get("/api/v1")).ok["resources"]
        eviction = next(one for one in core if one["name"] == "pods/eviction")
        assert (eviction["group"], eviction["version"], eviction["kind"]) == ("policy", "v1", "Eviction")

    on_server(case)


def test_B1_3_aggregated_discovery_says_the_same_in_one_document() -> None:
    async def case(api: Api) -> None:
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
        seen = set()
        for path in ("/api", "/apis"):
            reply = await api.get(path, accept=accept)
            assert reply.headers["Content-Type"] == AGGREGATED
            for group in reply.ok["items"]:
                for version in group["versions"]:
                    prefix = f"{group['metadata'].get('name', '')}/{version['version']}"
                    seen |= {f"{prefix}/{one['resource']}" for one in version["resources"]}
        plain = {f"/v1/{one['name']}" for one in (await api.get("/api/v1")).ok["resources"]}
        plain |= {f"apps/v1/{one['name']}" for one in (await api.get("/apis/apps/v1")).ok["resources"]}
        assert {name for name in plain if name.count("/") == 2} <= seen
        assert "application/json" in (await api.get("/api")).headers["Content-Type"]

    on_server(case)


@pytest.mark.parametrize(
    "path", ["/version", "/version/", "/healthz", "/livez", "/readyz", "/api/", "/apis/"]
)
def test_B1_4_fixed_paths_answer_with_or_without_a_slash(path: str) -> None:
    async def case(api: Api) -> None:
        assert (await api.get(path)).status == 200
        (await api.post(path, {})).refused(405, "MethodNotAllowed")

    on_server(case)


def test_B1_5_the_older_openapi_document_is_protobuf_and_whole() -> None:
    async def case(api: Api) -> None:
        asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        reply = await api.get("/openapi/v2", accept=asked)
        assert reply.headers["Content-Type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        document = dict(wire.fields(reply.body))
        assert document[1] == b"2.0"
        definitions = [
            dict(wire.fields(content_of(pair))) for _, pair in wire.fields(content_of(document[9]))
        ]
        as_json = (await api.get("/openapi/v2")).ok
        assert [pair[1].decode() for pair in definitions] == [*as_json["definitions"]]  # type: ignore[union-attr]

    on_server(case)


def test_B1_8_the_newer_openapi_documents_know_options_and_merge_keys() -> None:
    async def case(api: Api) -> None:
        index = (await api.get("/openapi/v3")).ok["paths"]
        assert {"api/v1", "apis/apps/v1", "apis/rbac.authorization.k8s.io/v1"} <= set(index)
        for entry in index.values():
            assert (await api.get(entry["serverRelativeURL"])).status == 200
        core = (await api.get(index["api/v1"]["serverRelativeURL"])).ok
        patch = core["paths"]["/api/v1/namespaces/{namespace}/services/{name}"]["patch"]
        names = {parameter["name"] for parameter in patch["parameters"]}
        assert names == {"dryRun", "fieldManager", "fieldValidation", "force"}
        ports = core["components"]["schemas"]["io.k8s.ServiceSpec"]["properties"]["ports"]
        assert ports["x-kubernetes-patch-merge-key"] == "port"
        assert ports["x-kubernetes-list-map-keys"] == ["port", "protocol"]
        (await api.get("/openapi/v3/apis/none/v1")).refused(404, "NotFound")

    on_server(case)


def test_B2_1_clients_that_prefer_protobuf_get_json() -> None:
    async def case(api: Api) -> None:
        reply = await api.get(CONFIGMAPS, accept="application/vnd.kubernetes.protobuf,application/json")
        assert reply.headers["Content-Type"].startswith("application/json")

    on_server(case)


PROTOBUF = "application/vnd.kubernetes.protobuf"
# ConfigMap "a" of namespace "default" with key=value, as typed clients send it.
CONFIGMAP_A = (
    b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap"
    b"\x12\x24\n\x12\n\x01a\x12\0\x1a\x07default\x22\0B\0\x12\x0e\n\x03key\x12\x07content"
)


def test_B2_2_protobuf_goes_in_and_json_comes_out() -> None:
    async def case(api: Api) -> None:
        made = (await api.post(CONFIGMAPS, CONFIGMAP_A, type=PROTOBUF, accept=f"{PROTOBUF},{JSON}")).ok
        assert (made["metadata"]["name"], made["data"]) == ("a", {"key": "content"})
        changed = CONFIGMAP_A.replace(b"content", b"CONTENT")
        assert (await api.put(f"{CONFIGMAPS}/a", changed, type=PROTOBUF)).ok["data"] == {"key": "CONTENT"}
        (await api.post(SERVICES, CONFIGMAP_A, type=PROTOBUF)).refused(400, "BadRequest")
        (await api.post(CONFIGMAPS, CONFIGMAP_A[:-1], type=PROTOBUF)).refused(400, "BadRequest")
        options = b"k8s\0\n\x13\n\x02v1\x12\x0dDeleteOptions\x12\x02\x08\0"
        (await api.delete(f"{CONFIGMAPS}/a", options, type=PROTOBUF)).ok  # noqa: B018 (asserts)
        await api.until_gone(f"{CONFIGMAPS}/a")

    on_server(case)


def test_B2_4_yaml_goes_in_and_out() -> None:
    async def case(api: Api) -> None:
        text = b"metadata:\n  name: a\ndata:\n  day: '2020-01-01'\n  text: |\n    two\n    lines\n"
        made = (await api.post(CONFIGMAPS, text, type="application/yaml")).ok
        assert made["data"] == {"day": "2020-01-01", "text": "two\nlines\n"}
        reply = await api.get(f"{CONFIGMAPS}/a", accept="application/yaml")
        assert reply.headers["Content-Type"] == "application/yaml"
        assert b"name: a\n" in reply.body

    on_server(case)


def test_B2_7_media_types_that_nobody_speaks_are_refused() -> None:
    async def case(api: Api) -> None:
        (await api.get(CONFIGMAPS, accept="text/html")).refused(406, "NotAcceptable")
        only_table_v9 = "application/json;as=Table;v=v9;g=meta.k8s.io"
        (await api.get(CONFIGMAPS, accept=only_table_v9)).refused(406, "NotAcceptable")
        for kind in ("text/plain", "application/json-patch+json"):
            reply = await api.post(CONFIGMAPS, configmap("a"), type=kind)
            assert "application/json, application/yaml" in reply.refused(415, "UnsupportedMediaType")

    on_server(case)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b"{", 400, id="half an object"),
        pytest.param(b"[]", 400, id="a list"),
        pytest.param(b"null", 400, id="null"),
        pytest.param(b'"text"', 400, id="a string"),
        pytest.param(b"\xff\xfe{}", 400, id="no UTF-8"),
        pytest.param(b'{"a":NaN}', 400, id="not a number"),
        pytest.param(b'{"metadata":' + b'{"a":' * 200 + b"1" + b"}" * 201, 400, id="200 levels deep"),
        pytest.param(b"[" * 1_000_000, 400, id="a million open brackets"),
        pytest.param(b'{"a":' * 500_000 + b"1" + b"}" * 500_000, 400, id="half a million levels deep"),
        pytest.param(b'{"metadata":{"name":"a"},"spec":{"replicas":1e400}}', 400, id="a number beyond all"),
        pytest.param(
            b'{"metadata":{"name":"a"},"spec":{"replicas":99999999999999999999}}',
            400,
            id="an integer beyond 64 bits",
        ),
        pytest.param(b'{"metadata":{"name":"a"},"x":"' + b"y" * (3 << 20) + b'"}', 413, id="more than 3 MiB"),
        pytest.param(gzip.compress(b" " * 50_000_000), 400, id="a bomb of gzip"),
    ],
)
def test_A5_bodies_that_are_no_objects_are_refused(body: bytes, code: int) -> None:
    async def case(api: Api) -> None:
        reply = await api.post(DEPLOYMENTS, body)
        assert reply.status == code, reply.body
        assert reply.json["kind"] == "Status"
        assert (await api.get(DEPLOYMENTS)).ok["items"] == []

    on_server(case)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"a: &a [x]\nb: *a\n", id="an alias"),
        pytest.param(b"[" * 200 + b"]" * 200, id="too deep"),
        pytest.param(b"a: b: c", id="no YAML"),
        pytest.param(b"{1: 2}", id="a key that is a number"),
        pytest.param(b"a: !!python/object/apply:os.getcwd []", id="a Python object"),
        pytest.param(b"a: 1\n---\nb: 2\n", id="two documents"),
        pytest.param(b"- a\n", id="a list"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_A5_yaml_that_is_no_object_is_refused(body: bytes) -> None:
    async def case(api: Api) -> None:
        (await api.post(CONFIGMAPS, body, type="application/yaml")).refused(400, "BadRequest")

    on_server(case)


def test_A5_a_body_announced_too_large_is_refused_before_it_comes() -> None:
    async def case(api: Api) -> None:
        address = urlsplit(api.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.readline(), 10)
        assert b" 413 " in answer
        writer.close()

    on_server(case)


def test_A5_a_body_that_never_ends_is_cut_at_the_limit() -> None:
    async def case(api: Api) -> None:
        address = urlsplit(api.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for _ in range(50):  # 50 x 64 KiB: more than the limit
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        answer = await asyncio.wait_for(reader.readline(), 10)
        assert b" 413 " in answer
        writer.close()

    on_server(case)


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            b"GET /api HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n", id="a header of 1 MiB"
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", id="a TLS greeting"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="HTTP of another age"),
    ],
)
def test_A5_what_is_no_request_is_refused_and_harms_nobody(request_bytes: bytes) -> None:
    async def case(api: Api) -> None:
        address = urlsplit(api.url)

        def send() -> bytes:
            with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
                try:
                    connection.sendall(request_bytes)
                    connection.shutdown(socket.SHUT_WR)
                    return connection.recv(100)
                except TimeoutError:
                    raise
                except OSError:  # hung up before all of it was sent
                    return b""

        answer = await asyncio.to_thread(send)
        assert answer == b"" or answer.split()[1].startswith(b"4")
        assert (await api.get("/healthz")).status == 200

    on_server(case)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("/nothing", 404, id="an unknown path"),
        pytest.param("/api/v2", 404, id="an unknown version"),
        pytest.param("/apis/none/v1/pods", 404, id="an unknown group"),
        pytest.param("/api/v1/nothings", 404, id="an unknown resource"),
        pytest.param("/api/v1/pods/a", 404, id="a pod without namespace"),
        pytest.param(f"{NS}/default/nodes", 404, id="a node in a namespace"),
        pytest.param(f"{PODS}/a/nothing", 404, id="an unknown subresource"),
        pytest.param(f"{PODS}/a/status/more", 404, id="too long a path"),
        pytest.param(f"{PODS}/%2e%2e", 400, id="dots"),
        pytest.param(f"{PODS}/a%2fb", 400, id="a slash inside a name"),
        pytest.param(f"{PODS}//status", 400, id="an empty name"),
        pytest.param(f"{PODS}/a%00b", 404, id="a zero byte"),
        pytest.param(f"{PODS}/a", 404, id="a pod that is not there"),
    ],
)
def test_paths_that_lead_nowhere(path: str, code: int) -> None:
    async def case(api: Api) -> None:
        address = urlsplit(api.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = (await asyncio.wait_for(reader.read(), 5)).decode()
        writer.close()
        assert answer.split()[1] == str(code)
        assert json.loads(answer.partition("\r\n\r\n")[2])["kind"] == "Status"

    on_server(case)


def test_B2_9_unknown_and_duplicate_fields() -> None:
    async def case(api: Api) -> None:
        wrong = json.dumps(deployment("a", bogus=1)).replace(
            '"bogus": 1', '"bogus": 1, "paused": true, "paused": true'
        )
        strict = await api.post(DEPLOYMENTS, wrong.encode(), fieldValidation="Strict")
        assert strict.refused(400, "BadRequest") == (
            'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error:'
            ' unknown field "spec.bogus", duplicate field "spec.paused"'
        )
        warned = await api.post(DEPLOYMENTS, wrong.encode())
        assert warned.status == 201
        assert warned.headers["Warning"] == '299 - "unknown field \\"spec.bogus\\""'
        again = wrong.replace('"name": "a"', '"name": "b"').encode()
        ignored = await api.post(DEPLOYMENTS, again, fieldValidation="Ignore")
        assert (ignored.status, "Warning" in ignored.headers) == (201, False)
        (await api.post(DEPLOYMENTS, deployment("c"), fieldValidation="Loud")).refused(422, "Invalid")

    on_server(case)


@pytest.mark.parametrize(
    ("media_type", "patch"),
    [
        pytest.param(MERGE, {"data": {"x": "y"}, "bogus": 1}, id="merge patch"),
        pytest.param(STRATEGIC, {"bogus": 1}, id="strategic merge patch"),
        pytest.param(JSON_PATCH, [{"op": "add", "path": "/bogus", "value": 1}], id="JSON patch"),
    ],
)
def test_B2_9_unknown_fields_in_a_patch(media_type: str, patch: Value) -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a"))
        strict = await api.patch(f"{CONFIGMAPS}/a", patch, media_type, fieldValidation="Strict")
        assert 'strict decoding error: unknown field "bogus"' in strict.refused(422, "Invalid")
        assert "bogus" not in (await api.get(f"{CONFIGMAPS}/a")).ok
        warned = await api.patch(f"{CONFIGMAPS}/a", patch, media_type)
        assert (warned.status, warned.headers["Warning"]) == (200, '299 - "unknown field \\"bogus\\""')

    on_server(case)


def test_B2_9_subresources_have_fields_of_their_own() -> None:
    async def case(api: Api) -> None:
        await api.post(DEPLOYMENTS, deployment("a"))
        scale = {"spec": {"replicas": 3}}
        done = await api.patch(f"{DEPLOYMENTS}/a/scale", scale, fieldValidation="Strict")
        assert done.ok["spec"] == {"replicas": 3}
        wrong = await api.patch(f"{DEPLOYMENTS}/a/scale", {"spec": {"size": 3}}, fieldValidation="Strict")
        assert 'unknown field "spec.size"' in wrong.refused(422, "Invalid")

    on_server(case)


def test_nulls_are_read_as_absent() -> None:
    async def case(api: Api) -> None:
        sent = deployment("a", replicas=None, paused=None) | {"status": None}
        sent["metadata"] |= {"creationTimestamp": None, "labels": None}
        made = (await api.post(DEPLOYMENTS, sent)).ok
        assert made["spec"]["replicas"] == 1
        assert "paused" not in made["spec"]
        assert "labels" not in made["metadata"]

    on_server(case)


def test_what_we_do_not_know_is_kept_as_it_is() -> None:
    async def case(api: Api) -> None:
        sent = configmap("a") | {"future": {"field": [1, {"x": "ü☃\U0001f600"}, 1.5, True]}}
        assert (await api.post(CONFIGMAPS, sent)).ok["future"] == sent["future"]
        assert (await api.patch(f"{CONFIGMAPS}/a", {"data": {"b": "c"}})).ok["future"] == sent["future"]

    on_server(case)


def test_a_merge_patch_needs_an_object() -> None:
    async def case(api: Api) -> None:
        await api.post(SERVICES, {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}})
        (await api.patch(f"{SERVICES}/a", [], MERGE)).refused(400, "BadRequest")
        (await api.patch(f"{SERVICES}/a", b"{", MERGE)).refused(400, "BadRequest")
        (await api.patch(f"{SERVICES}/a", {"spec": None}, MERGE)).refused(422, "Invalid")

    on_server(case)
