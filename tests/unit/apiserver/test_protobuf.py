"""Protobuf request bodies: what a real client sent, every special type, and bytes that mean nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.apiserver import codec, protobuf
from kubenet.apiserver.schema import types
from kubenet.apiserver.schema.types import LEAVES, SERVED, Shape, message
from kubenet.apiserver.status import StatusError

# What kubectl 1.33 sends for `create deployment web --image=web:1 --replicas=0 --port 80`.
DEPLOYMENT = (
    b'k8s\x00\n\x15\n\x07apps/v1\x12\nDeployment\x12\xba\x01\n#\n\x03web\x12\x00\x1a\x04demo"\x00*\x002\x00'
    b"8\x00B\x00Z\n\n\x03app\x12\x03web\x12\x84\x01\x08\x00\x12\x0c\n\n\n\x03app\x12\x03web\x1aj\n\x1c\n\x00"
    b'\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00Z\n\n\x03app\x12\x03web\x12J\x12,\n\x03web\x12\x05web:1*\x00'
    b'2\n\n\x00\x10\x00\x18P"\x00*\x00B\x00j\x00r\x00\x80\x01\x00\x88\x01\x00\x90\x01\x00\xa2\x01\x00\x1a'
    b'\x002\x00B\x00J\x00R\x00X\x00`\x00h\x00\x82\x01\x00\x8a\x01\x00\x9a\x01\x00\xc2\x01\x00"\x02\n\x00'
    b'(\x008\x00\x1a\x0c\x08\x00\x10\x00\x18\x00 \x00(\x008\x00\x1a\x00"\x00'
)


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def field(number: int, value: int | bytes | str) -> bytes:
    """Return one field: a number as varint, anything else with its length before it."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def body(api_version: str, kind: str, *fields: bytes) -> bytes:
    """Return a request's body: the envelope around an object's fields."""
    return b"k8s\0" + field(1, field(1, api_version) + field(2, kind)) + field(2, b"".join(fields))


def decoded(api_version: str, kind: str, *fields: bytes) -> Any:  # what JSON holds
    value = protobuf.decode(body(api_version, kind, *fields))
    assert (value.pop("kind"), value.pop("apiVersion")) == (kind, api_version)
    return value


def test_B2_2_a_deployment_of_kubectl() -> None:
    container = {"name": "web", "image": "web:1", "ports": [{"containerPort": 80}], "resources": {}}
    assert codec.decode_object(DEPLOYMENT, protobuf.PROTOBUF_TYPE) == {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "demo", "labels": {"app": "web"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
            "strategy": {},
        },
        "status": {},
    }


def test_B2_3_times() -> None:
    spec = field(3, field(1, 1_700_000_000) + field(2, 123_456_789)) + field(4, b"")
    metadata = field(8, field(1, 1_700_000_000) + field(2, 5)) + field(9, b"")
    assert decoded("coordination.k8s.io/v1", "Lease", field(1, metadata), field(2, spec)) == {
        "metadata": {"creationTimestamp": "2023-11-14T22:13:20Z"},
        "spec": {"acquireTime": "2023-11-14T22:13:20.123456Z"},
    }
    early = field(1, field(8, field(1, -62_135_596_800)))
    assert decoded("v1", "Pod", early)["metadata"] == {"creationTimestamp": "0001-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        pytest.param(field(1, 0) + field(2, 0) + field(3, ""), 0, id="zero, on purpose"),
        pytest.param(field(1, 0) + field(2, 3) + field(3, ""), 3, id="a number"),
        pytest.param(field(1, 1) + field(2, 0) + field(3, "25%"), "25%", id="a string"),
        pytest.param(field(2, -1), -1, id="a negative number"),
    ],
)
def test_B2_3_numbers_or_strings(wire: bytes, value: int | str) -> None:
    spec = field(4, field(2, field(2, wire)))
    found = decoded("apps/v1", "Deployment", field(2, spec))
    assert found["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": value}


def test_B2_3_quantities_and_maps_of_them() -> None:
    requests = field(2, field(1, "cpu") + field(2, field(1, "100m"))) + field(2, field(1, "memory"))
    container = field(1, "c") + field(8, requests)
    found = decoded("v1", "Pod", field(2, field(2, container)))
    assert found["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m", "memory": "0"}}


def test_B2_3_bytes_become_base64_and_texts_stay() -> None:
    secret = decoded("v1", "Secret", field(2, field(1, "a") + field(2, b"\xff\0")), field(2, field(1, "b")))
    assert secret == {"data": {"a": "/wA=", "b": ""}}
    assert decoded("v1", "ConfigMap", field(2, field(1, "a") + field(2, "\xfc"))) == {"data": {"a": "\xfc"}}


def test_B2_3_the_fields_of_a_manager() -> None:
    entry = field(1, "kubectl") + field(7, field(1, b'{"f:data":{"f:a":{}}}'))
    assert decoded("v1", "ConfigMap", field(1, field(17, entry)))["metadata"] == {
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": {"f:a": {}}}}]
    }


def test_B2_3_embedded_messages_belong_to_the_one_around_them() -> None:
    probe = field(1, field(2, field(1, "/healthz"))) + field(2, 5)
    container = field(1, "c") + field(10, probe)
    volume = field(1, "v") + field(2, field(2, b""))
    spec = decoded("v1", "Pod", field(2, field(1, volume) + field(2, container)))["spec"]
    assert spec["containers"][0]["livenessProbe"] == {
        "httpGet": {"path": "/healthz"},
        "initialDelaySeconds": 5,
    }
    assert spec["volumes"] == [{"name": "v", "emptyDir": {}}]


def test_B2_3_zeros_stay_only_where_they_say_something() -> None:
    spec = field(11, 0) + field(4, 0) + field(21, 0) + field(3, "")
    assert decoded("v1", "Pod", field(2, spec))["spec"] == {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
    }
    ready = decoded(
        "discovery.k8s.io/v1", "EndpointSlice", field(2, field(1, "10.0.0.1") + field(2, field(1, 0)))
    )
    assert ready["endpoints"] == [{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}]


def test_B2_3_lists_of_numbers_come_one_by_one_or_packed() -> None:
    packed = field(14, field(4, varint(7) + varint(300)) + field(4, 8))
    assert decoded("v1", "Pod", field(2, packed))["spec"] == {
        "securityContext": {"supplementalGroups": [7, 300, 8]}
    }


def test_B2_3_what_the_table_does_not_know_is_ignored() -> None:
    unknown = field(900, 7) + field(901, b"more") + b"\x91\x4b" + bytes(8) + b"\x95\x4b" + bytes(4)
    assert decoded("v1", "ConfigMap", unknown, field(1, field(1, "a") + unknown)) == {
        "metadata": {"name": "a"}
    }


@pytest.mark.parametrize("api_version", ["v1", "apps/v1", "meta.k8s.io/v1"])
def test_B2_3_every_group_has_delete_options(api_version: str) -> None:
    fields = field(1, 0) + field(4, "Foreground") + field(2, field(1, "u"))
    assert decoded(api_version, "DeleteOptions", fields) == {
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": "u"},
    }


NAMED = b"k8s\0" + field(1, field(1, "v1") + field(2, "ConfigMap"))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="JSON"),
        pytest.param(b"k8s\0", id="an empty envelope"),
        pytest.param(body("v1", "Nothing"), id="an unknown kind"),
        pytest.param(body("v2", "Pod"), id="an unknown version"),
        pytest.param(b"k8s\0" + field(1, 5), id="a number for a message"),
        pytest.param(NAMED + field(2, b"") + field(3, "gzip"), id="compressed once more"),
        pytest.param(NAMED + b"\x12\x7f", id="cut inside a field"),
        pytest.param(NAMED + b"\x12\xff", id="cut inside a number"),
        pytest.param(NAMED + b"\xff" * 11, id="a number without end"),
        pytest.param(NAMED + b"\x13", id="a wire type that nobody uses"),
        pytest.param(body("v1", "ConfigMap", field(1, field(1, b"\xff"))), id="no UTF-8"),
        pytest.param(body("v1", "ConfigMap", field(1, field(1, 7))), id="a number for a string"),
        pytest.param(body("v1", "ConfigMap", field(4, "true")), id="bytes for a boolean"),
        pytest.param(body("v1", "Pod", field(1, field(8, field(1, 2**62)))), id="a time beyond all"),
        pytest.param(body("v1", "Pod", field(1, field(8, field(2, -1)))), id="nanoseconds before a second"),
        pytest.param(body("v1", "Pod", field(1, field(7, -(2**63)))), id="an integer beyond 64 bits"),
        pytest.param(
            body("v1", "Pod", field(1, field(17, field(7, field(1, b"{"))))), id="broken managed fields"
        ),
        pytest.param(
            body("v1", "Pod", field(1, field(17, field(7, field(1, b"[" * 5000))))),
            id="managed fields too deep",
        ),
        pytest.param(body("v1", "Pod", field(2, b"\x12\x00" * 300_000)), id="300,000 empty containers"),
    ],
)
def test_A5_malformed_bodies_are_refused(wrong: bytes) -> None:
    with pytest.raises(StatusError) as refused:
        codec.decode_object(wrong, protobuf.PROTOBUF_TYPE)
    assert refused.value.code == 400


def test_every_type_that_a_message_names_exists() -> None:
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name in LEAVES:
            return
        seen.add(name)
        for one in message(name).by_number.values():
            assert one.shape is not Shape.MAP or one.type in LEAVES
            visit(one.type)

    for _, kind in SERVED:
        visit(kind)
    visit(types.DELETE_OPTIONS)
    assert len(seen) > 190


LEAF_VALUES: dict[str, Any] = {
    "string": st.text(min_size=1, max_size=4),
    "int": st.integers(-(2**63) + 1, 2**63 - 1).filter(bool),
    "bool": st.just(True),
    "Quantity": st.sampled_from(["1", "100m", "2Gi"]),
    "IntOrString": st.integers(0, 70_000) | st.just("http"),
}
LEAF_WIRES: dict[str, Any] = {
    "Quantity": lambda value: field(1, value),
    "IntOrString": lambda value: field(1, 1) + field(3, value) if isinstance(value, str) else field(2, value),
}


@st.composite
def objects(draw: st.DrawFn, name: str, depth: int = 0) -> tuple[dict[str, Any], bytes]:
    """Draw a message as JSON and as bytes, its fields in any order."""
    known = [one for one in message(name).by_number.values() if one.name]
    usable = [one for one in known if one.type in LEAF_VALUES or (one.type not in LEAVES and depth < 4)]
    value: dict[str, Any] = {}
    wire = b""
    for one in (
        draw(st.lists(st.sampled_from(usable), max_size=4, unique_by=lambda one: one.name)) if usable else ()
    ):
        if one.type in LEAF_VALUES:
            part = draw(LEAF_VALUES[one.type])
            content = LEAF_WIRES.get(one.type, lambda leaf: leaf)(part)
        else:
            part, content = draw(objects(one.type, depth + 1))
        if one.shape is Shape.MAP:
            key = draw(st.text(max_size=3))
            value[one.name] = {key: part}
            wire += field(one.number, field(1, key) + field(2, content))
        else:
            value[one.name] = [part] if one.shape is Shape.LIST else part
            wire += field(one.number, content)
    return value, wire


@given(st.data(), st.sampled_from(sorted(SERVED)))
def test_B2_3_what_is_written_is_read(data: st.DataObject, served: tuple[str, str]) -> None:
    value, wire = data.draw(objects(served[1]))
    assert decoded(*served, wire) == value


def refusal(wire: bytes) -> int:
    """Return the code with which a body is refused, 0 if it is read."""
    try:
        codec.decode_object(wire, protobuf.PROTOBUF_TYPE)
    except StatusError as error:
        return error.code
    return 0


@given(st.data(), st.sampled_from(sorted(SERVED)))
def test_A5_broken_bodies_are_read_or_refused(data: st.DataObject, served: tuple[str, str]) -> None:
    whole = bytearray(body(*served, data.draw(objects(served[1]))[1]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    assert refusal(broken) in (0, 400)


@given(st.binary(max_size=200))
def test_A5_any_bytes_are_read_or_refused(noise: bytes) -> None:
    assert refusal(body("v1", "Pod", noise)) in (0, 400)
