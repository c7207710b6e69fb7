"""CNI as the node agent speaks it."""

import json

import pytest

from kubenet.model.objects import Json
from kubenet.node.cni_conf import (
    Attachment,
    NetworkConfigInvalid,
    addresses_of,
    chosen_file,
    parse_network,
    plugin_error,
    plugin_stdin,
)

ATTACHMENT = Attachment("c1", "/run/netns/c1", "eth0", "demo", "web-1", "u-1")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        pytest.param(["20-b.conflist", "10-a.conf", "05-readme.txt"], "10-a.conf", id="first by name"),
        pytest.param(["x.json"], "x.json", id="json counts"),
        pytest.param(["a.conflist.new", "README"], None, id="a half written file does not"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_the_first_configuration_by_name_counts(names: list[str], chosen: str | None) -> None:
    assert chosen_file(names) == chosen


def test_a_list_and_a_single_plugin_are_both_networks() -> None:
    chain = parse_network(b'{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"a"},{"type":"b"}]}', "f")
    assert [plugin["type"] for plugin in chain.plugins] == ["a", "b"]
    single = parse_network(b'{"cniVersion":"1.0.0","name":"n","type":"a","mtu":9000}', "f")
    assert single.plugins[0]["mtu"] == 9000


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"name":"n","plugins":[]}', id="no plugin"),
        pytest.param(b'{"plugins":[{"type":"a"}]}', id="no name"),
        pytest.param(b'{"name":"n","type":"../../tmp/x"}', id="a type that is a path"),
        pytest.param(b'{"name":"n","plugins":[{}]}', id="no type"),
        pytest.param(b'{"name":1,"type":"a"}', id="name is a number"),
        pytest.param(b'{"name":"\xff","type":"a"}', id="not text"),
    ],
)
def test_a_configuration_that_cannot_be_used_names_its_file(content: bytes) -> None:
    with pytest.raises(NetworkConfigInvalid, match=r"10-x\.conf"):
        parse_network(content, "10-x.conf")


def test_a_plugin_finds_the_attachment_in_its_environment() -> None:
    environment = ATTACHMENT.environment("ADD", "/opt/cni/bin")
    assert environment == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=web-1;"
        "K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1",
    }


def test_a_plugin_reads_its_part_with_name_version_and_what_came_before() -> None:
    network = parse_network(
        b'{"cniVersion":"1.0.0","name":"n","plugins":['
        b'{"type":"a"},{"type":"b","x":1,"capabilities":{"portMappings":true,"mac":false}}]}',
        "f",
    )
    offers: Json = {"portMappings": [{"hostPort": 80}], "mac": "0a:00:00:00:00:01"}
    first = json.loads(plugin_stdin(network, network.plugins[0], None, offers))
    assert first == {"type": "a", "name": "n", "cniVersion": "1.0.0"}
    second = json.loads(plugin_stdin(network, network.plugins[1], {"ips": []}, offers))
    assert second == {
        "type": "b",
        "x": 1,
        "name": "n",
        "cniVersion": "1.0.0",
        "prevResult": {"ips": []},
        "runtimeConfig": {"portMappings": [{"hostPort": 80}]},
    }


@pytest.mark.parametrize(
    ("stdout", "stderr", "says"),
    [
        pytest.param(
            b'{"code":11,"msg":"later","details":"soon"}', b"", "code 11: later: soon", id="error object"
        ),
        pytest.param(b"", b"panic\n", "status 2: panic", id="only stderr"),
        pytest.param(b"", b"", "status 2: it said nothing", id="silence"),
    ],
)
def test_a_plugin_s_failure_is_put_in_words(stdout: bytes, stderr: bytes, says: str) -> None:
    assert plugin_error(stdout, stderr, 2) == says


def test_addresses_of_a_result_lose_their_prefix_lengths() -> None:
    assert addresses_of({"ips": [{"address": "10.0.0.2/24"}, {"address": "fd00::2/64"}]}) == [
        "10.0.0.2",
        "fd00::2",
    ]
    assert addresses_of({}) == []


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        pytest.param('"cniVersion":"1.0.0","cniVersions":["0.4.0","1.1.0"]', "1.1.0", id="the newest"),
        pytest.param(
            '"cniVersion":"1.0.0","cniVersions":["0.4.0","9.0.0"]', "1.0.0", id="not one of the future"
        ),
        pytest.param('"cniVersion":"0.3.1"', "0.3.1", id="one alone"),
        pytest.param('"cniVersions":["0.4.0"]', "0.4.0", id="no cniVersion"),
    ],
)
def test_V2_the_newest_version_that_we_speak_is_chosen(versions: str, chosen: str) -> None:
    content = f'{{{versions},"name":"n","plugins":[{{"type":"a"}}]}}'.encode()
    assert parse_network(content, "f").cni_version == chosen


def test_L1_switches_may_be_words() -> None:
    conf = parse_network(
        b'{"cniVersion":"1.1.0","name":"n","disableCheck":"true","disableGC":true,"plugins":[{"type":"a"}]}',
        "f",
    )
    assert (conf.check_disabled, conf.gc_disabled) == (True, True)
    with pytest.raises(NetworkConfigInvalid, match="disableGC"):
        parse_network(b'{"name":"n","disableGC":"perhaps","plugins":[{"type":"a"}]}', "f")
