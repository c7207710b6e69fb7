"""Requests: what a runtime may ask, and the number of every mistake; conformance rows by name."""

import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.parse import parse, version_for_errors
from cni.spec import (
    LATEST,
    VERSIONS,
    Attachment,
    CniError,
    Code,
    Command,
    Dns,
    Request,
)

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/p1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}


def environment(**changes: str) -> dict[str, str]:
    """A sound environment, with changes; an empty value is no value."""
    merged = ENVIRONMENT | {f"CNI_{key}": value for key, value in changes.items()}
    return {key: value for key, value in merged.items() if value}


def conf(**changes: Any) -> bytes:
    """A sound configuration, with changes; None removes the key."""
    merged = {"cniVersion": "1.0.0", "name": "kubenet", "type": "kubenet"} | changes
    return json.dumps({key: value for key, value in merged.items() if value is not None}).encode()


def refused(env: dict[str, str], stdin: bytes) -> CniError:
    with pytest.raises(CniError) as caught:
        parse(env, stdin)
    return caught.value


def test_an_add_is_read_whole() -> None:
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=web-1;K8S_POD_UID=u;STRANGE=x"
    got = parse(environment(ARGS=args), conf(mtu=1400, prevResult={"ips": []}))
    assert got == Request(
        Command.ADD,
        "1.0.0",
        "kubenet",
        "c1",
        "eth0",
        "/run/netns/p1",
        pod="demo/web-1",
        mtu=1400,
        prev_result={"ips": []},
    )


def test_E2_an_unknown_command() -> None:
    error = refused(environment(COMMAND="FROB"), conf())
    assert error.code == 4
    assert "FROB" in str(error)


@pytest.mark.parametrize(
    ("command", "missing", "named"),
    [
        pytest.param("ADD", ("CONTAINERID", "NETNS", "IFNAME"), True, id="ADD without all"),
        pytest.param("CHECK", ("CONTAINERID", "NETNS", "IFNAME"), True, id="CHECK without all"),
        pytest.param("DEL", ("CONTAINERID", "IFNAME"), True, id="DEL without both"),
        pytest.param("ADD", ("NETNS",), True, id="ADD without a namespace"),
    ],
)
def test_E3_all_missing_variables_are_named(command: str, missing: tuple[str, ...], named: bool) -> None:
    error = refused(environment(COMMAND=command, **dict.fromkeys(missing, "")), conf(cniVersion="1.1.0"))
    assert error.code == 4
    assert all((f"CNI_{key}" in str(error)) is named for key in missing)


def test_E3_a_del_needs_no_namespace_and_nothing_needs_a_plugin_path() -> None:
    assert parse(environment(COMMAND="DEL", NETNS="", PATH=""), conf()).netns == ""


@pytest.mark.parametrize("container_id", ["-a", ".a", "a/b", "a b", "a\n", "ä", "a;b", "_"])
def test_E4_a_strange_container_id(container_id: str) -> None:
    assert refused(environment(CONTAINERID=container_id), conf()).code == 4


@pytest.mark.parametrize("container_id", ["a", "7", "A.b-c_d", "a" * 300])
def test_E4_a_sound_container_id(container_id: str) -> None:
    assert parse(environment(CONTAINERID=container_id), conf()).container_id == container_id


@pytest.mark.parametrize(
    "ifname",
    [".", "..", "a/b", "a:b", "a b", "a\tb", "a\u00a0b", "0123456789abcdef", "ääääääää", "eth0\n"],
)
def test_E5_a_name_that_no_interface_can_have(ifname: str) -> None:
    error = refused(environment(IFNAME=ifname), conf())
    assert error.code == 4
    assert error.details


@pytest.mark.parametrize("ifname", ["e", "eth0", "net1.100", "0123456789abcde", "..."])
def test_E5_a_sound_name_of_an_interface(ifname: str) -> None:
    assert parse(environment(IFNAME=ifname), conf()).ifname == ifname


@pytest.mark.parametrize(
    "stdin",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="blank"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b"\xff\xff", id="no text"),
        pytest.param(b'{"name": NaN}', id="not a number"),
        pytest.param(b'{"x":' * 100_000, id="nested without end"),
        pytest.param(b"hello", id="words"),
    ],
)
def test_E6_what_is_not_json(stdin: bytes) -> None:
    assert refused(environment(), stdin).code == 6


def test_E6_a_del_that_has_lost_its_configuration_is_still_a_del() -> None:
    assert parse(environment(COMMAND="DEL"), b"").attachment == Attachment("c1", "eth0")


@pytest.mark.parametrize("name", [None, "", "-x", "a/b", "a b", "x\n"])
def test_E7_a_network_without_a_proper_name(name: str | None) -> None:
    assert refused(environment(), conf(name=name)).code == 7


@pytest.mark.parametrize("version", ["9.9.9", "0.2.0", "", "1.0", "latest"])
def test_E8_a_version_that_we_do_not_speak(version: str) -> None:
    error = refused(environment(), conf(cniVersion=version))
    assert error.code == 1
    assert all(known in error.details for known in VERSIONS)


def test_E9_an_absent_version_is_0_1_0_which_we_do_not_speak() -> None:
    error = refused(environment(), conf(cniVersion=None))
    assert error.code == 1
    assert "0.1.0" in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"mtu": 67}, id="mtu below what IPv4 needs"),
        pytest.param({"mtu": 65536}, id="mtu beyond what a link can have"),
        pytest.param({"mtu": "1500"}, id="mtu as text"),
        pytest.param({"prevResult": []}, id="a result that is no object"),
        pytest.param({"runtimeConfig": {"ips": ["10.0.0.256"]}}, id="no address"),
        pytest.param({"runtimeConfig": {"mac": "0a:00"}}, id="no MAC address"),
        pytest.param({"name": 5}, id="a name that is a number"),
    ],
)
def test_E10_a_field_with_an_impossible_value(fields: dict[str, Any]) -> None:
    assert refused(environment(), conf(**fields)).code == 7


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"ipam": {"type": "dhcp"}}, ("ipam.type", "dhcp"), id="another address manager"),
    ],
)
def test_E10_what_we_do_not_do_is_not_passed_over(fields: dict[str, Any], named: tuple[str, ...]) -> None:
    error = refused(environment(), conf(**fields))
    assert error.code == 2
    assert all(word in str(error) for word in named)


@pytest.mark.parametrize(("text", "allowed"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_E12_the_nodes_own_namespace_is_allowed_only_on_request(text: str, allowed: bool) -> None:
    assert parse(environment(NETNS_OVERRIDE=text), conf()).own_netns_allowed is allowed


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        pytest.param(conf(cniVersion="0.4.0"), "0.4.0", id="one that we speak"),
        pytest.param(conf(cniVersion="9.9.9"), LATEST, id="one that we do not speak"),
        pytest.param(b"{", LATEST, id="not JSON"),
        pytest.param(conf(cniVersion=7), LATEST, id="a number"),
        pytest.param(b"[" * 100_000, LATEST, id="nested without end"),
    ],
)
def test_E14_an_error_is_told_in_the_version_it_was_asked_in(stdin: bytes, version: str) -> None:
    assert version_for_errors(stdin) == version


def test_C1_a_check_without_the_result_of_the_add() -> None:
    assert refused(environment(COMMAND="CHECK"), conf()).code == 7


@pytest.mark.parametrize(
    ("command", "version", "code"),
    [
        pytest.param("CHECK", "0.3.1", 1, id="C4 CHECK came with 0.4.0"),
        pytest.param("STATUS", "1.0.0", 1, id="S1 STATUS came with 1.1.0"),
        pytest.param("GC", "1.0.0", 1, id="G2 GC came with 1.1.0"),
    ],
)
def test_C4_S1_G2_a_verb_younger_than_the_version(command: str, version: str, code: int) -> None:
    error = refused(environment(COMMAND=command), conf(cniVersion=version))
    assert error.code == code
    assert version not in error.details


def test_G1_both_keys_for_valid_attachments_count() -> None:
    listed = {
        "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}],
        "cni.dev/attachments": [{"containerID": "b", "ifname": "net1"}],
    }
    request = parse({"CNI_COMMAND": "GC"}, conf(cniVersion="1.1.0", **listed))
    assert request.valid == {Attachment("a", "eth0"), Attachment("b", "net1")}


def test_G2_an_absent_list_is_an_error_and_an_empty_one_is_not() -> None:
    assert refused({"CNI_COMMAND": "GC"}, conf(cniVersion="1.1.0")).code == 7
    empty = parse({"CNI_COMMAND": "GC"}, conf(cniVersion="1.1.0", **{"cni.dev/attachments": []}))
    assert empty.valid == frozenset()


def test_P2_wishes_of_the_runtime_come_before_args_and_those_before_cni_args() -> None:
    env = environment(ARGS="IP=10.0.0.3;MAC=0a:00:00:00:00:03")
    args = {"cni": {"ips": ["10.0.0.2/24"], "mac": "0A:00:00:00:00:02"}}
    wished = {"ips": ["10.0.0.1/24", "fd00::1"], "mac": "0a:00:00:00:00:01"}
    by_env = parse(env, conf())
    by_args = parse(env, conf(args=args))
    by_wish = parse(env, conf(args=args, runtimeConfig=wished))
    assert (by_env.addresses, by_env.mac) == ((ip_address("10.0.0.3"),), "0a:00:00:00:00:03")
    assert (by_args.addresses, by_args.mac) == ((ip_address("10.0.0.2"),), "0a:00:00:00:00:02")
    assert by_wish.addresses == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert by_wish.mac == "0a:00:00:00:00:01"


@pytest.mark.parametrize(
    ("args", "named"),
    [pytest.param("FOO=1;IP=10.0.0.1", "FOO", id="unknown key"), pytest.param("IP", "IP", id="no value")],
)
def test_P2_cni_args_that_we_do_not_know(args: str, named: str) -> None:
    error = refused(environment(ARGS=args), conf())
    assert error.code == 4
    assert named in str(error)


def test_D2_a_del_does_not_look_at_what_the_configuration_asks_for_by_now() -> None:
    request = parse(
        environment(COMMAND="DEL", ARGS="FOO=1"), conf(mtu=5, ipam={"type": "dhcp"}, name="renamed")
    )
    assert request.attachment == Attachment("c1", "eth0")


words = st.dictionaries(
    st.sampled_from([*ENVIRONMENT, "CNI_ARGS", "CNI_NETNS_OVERRIDE"]),
    st.sampled_from([command.value for command in Command]) | st.text(max_size=20),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
configs = st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(
        ["cniVersion", "name", "mtu", "prevResult", "runtimeConfig", "args", "ipam", "cni.dev/attachments"]
    ),
    st.sampled_from([*VERSIONS, "kubenet"]) | json_values,
).map(lambda fields: json.dumps(fields).encode())


@given(words, configs)
def test_any_input_is_a_request_or_a_numbered_error_and_nothing_else(
    env: dict[str, str], stdin: bytes
) -> None:
    try:
        request = parse(env, stdin)
    except CniError:
        return
    assert request.command.value == env["CNI_COMMAND"]


def test_a_text_that_ends_too_early_is_no_json_whatever_it_says_before() -> None:
    env = {"CNI_COMMAND": "VERSION", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
    with pytest.raises(CniError) as refused:
        parse(env, b'{"cniVersion":0')
    assert refused.value.code is Code.DECODING_FAILURE


def test_P1_what_the_runtime_offers_may_be_spelt_as_go_spells_its_structures() -> None:
    # containerd passes its own structures on, whose fields have no JSON names.
    wished = {
        "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "10.0.0.1"}],
        "bandwidth": {"IngressRate": 1000, "IngressBurst": 2, "EgressRate": 3000, "EgressBurst": 4},
        "dns": {"Servers": ["10.96.0.10"], "Searches": ["cluster.local"], "Options": []},
    }
    got = parse(environment(), conf(runtimeConfig=wished))
    assert [str(port) for port in got.host_ports] == ["10.0.0.1:8080/tcp"]
    assert (got.bandwidth.ingress_rate, got.bandwidth.egress_burst) == (1000, 4)
    assert got.dns == Dns(("10.96.0.10",), ("cluster.local",))


def test_P1_what_is_null_is_not_wished_for() -> None:
    nothing = {"portMappings": None, "bandwidth": None, "io.kubernetes.cri.pod-annotations": None}
    dns = {"Servers": None, "Searches": ["cluster.local"]}
    got = parse(environment(), conf(runtimeConfig={**nothing, "dns": dns}))
    assert (got.host_ports, got.dns) == ((), Dns((), ("cluster.local",)))


def test_a_field_that_is_null_is_as_good_as_none() -> None:
    # Whoever writes configurations from structures in Go, or from a template, leaves nulls.
    nulls = dict.fromkeys(["mtu", "dns", "ipam", "args", "runtimeConfig", "prevResult", "type"])
    text = json.dumps({"cniVersion": "1.0.0", "name": "kubenet", **nulls}).encode()
    assert parse(environment(), text) == parse(environment(), conf())
    assert refused(environment(), b'{"cniVersion": null, "name": "kubenet"}').code == 1
