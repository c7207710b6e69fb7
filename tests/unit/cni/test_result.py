"""Answers in the form of every version."""

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from cni.plan import Bridge, PodNet, result_of
from cni.result import (
    AssignedAddress,
    Interface,
    Result,
    interface_in,
    render_error,
    render_result,
    render_versions,
)
from cni.spec import VERSIONS, AssignedRoute, CniError, Code
from kubenet.model.links import IPAddress

SANDBOX = "/run/netns/p1"
ADDRESSES: tuple[IPAddress, ...] = (ip_interface("10.244.1.5").ip, ip_interface("fd00::5").ip)
ROUTED = PodNet("k0123456789abcd", "eth0", ADDRESSES[:1], 1450)
BRIDGED = PodNet(
    "k0123456789abcd", "eth0", ADDRESSES[:1], 1450, Bridge("cni0", (ip_interface("10.244.1.1/24"),))
)
DUAL = PodNet("k0123456789abcd", "eth0", ADDRESSES, 1450)


def rendered(pod: PodNet, version: str, prev_result: dict[str, object] | None = None) -> dict[str, Any]:
    text = render_result(result_of(pod, SANDBOX), version, prev_result)
    assert text.count(b"\n") == 1
    decoded = json.loads(text)
    assert isinstance(decoded, dict)
    return decoded


def test_R1_R2_R3_every_version_of_every_wiring_is_as_it_was(golden: Callable[[str, str], None]) -> None:
    cases = {"routed": ROUTED, "bridge": BRIDGED, "dual": DUAL}
    text = "".join(
        f"# {name} {version}\n{json.dumps(rendered(pod, version), indent=2)}\n"
        for name, pod in cases.items()
        for version in VERSIONS
    )
    golden("cni_results.txt", text)


@pytest.mark.parametrize("version", VERSIONS)
def test_V3_the_result_has_the_version_that_was_asked_in(version: str) -> None:
    assert rendered(ROUTED, version)["cniVersion"] == version


@pytest.mark.parametrize("version", VERSIONS)
def test_R1_addresses_name_their_family_only_before_1_0_0(version: str) -> None:
    families = [entry.get("version") for entry in rendered(DUAL, version)["ips"]]
    assert families == (["4", "6"] if version < "1.0.0" else [None, None])


@pytest.mark.parametrize("version", VERSIONS)
def test_R2_fields_of_1_1_0_are_left_out_before(version: str) -> None:
    result = Result(
        (Interface("eth0", "0a:00:00:00:00:01", 1450),),
        (),
        (AssignedRoute(ip_network("0.0.0.0/0"), mtu=1400),),
    )
    got = json.loads(render_result(result, version))
    assert ("mtu" in got["interfaces"][0]) is (version == "1.1.0")
    assert ("mtu" in got["routes"][0]) is (version == "1.1.0")
    assert ("dns" in got) is (version != "1.1.0")


def test_R3_addresses_point_at_the_pods_own_interface() -> None:
    for pod in (ROUTED, BRIDGED, DUAL):
        got = rendered(pod, "1.1.0")
        for entry in got["ips"]:
            interface = got["interfaces"][entry["interface"]]
            assert (interface["name"], interface["sandbox"]) == ("eth0", SANDBOX)
            assert interface["mac"] == pod.mac
        assert all("sandbox" not in entry for entry in got["interfaces"] if entry["name"] != "eth0")


def test_R5_an_address_manager_names_no_interface() -> None:
    address = AssignedAddress(ip_interface("10.244.1.2/24"), ip_address("10.244.1.1"))
    got = json.loads(render_result(Result((), (address,)), "1.0.0"))
    assert "interfaces" not in got
    assert [set(entry) for entry in got["ips"]] == [{"address", "gateway"}]


def test_A4_what_an_earlier_plugin_made_comes_first_and_nothing_of_it_is_lost() -> None:
    before: dict[str, object] = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "x", "mac": "0a:00:00:00:00:09", "strange": True}],
        "ips": [{"address": "192.0.2.1/32", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"nameservers": ["192.0.2.53"]},
        "unknown": {"deep": [1, 2]},
    }
    got = rendered(ROUTED, "1.0.0", before)
    assert got["interfaces"][0] == {"name": "x", "mac": "0a:00:00:00:00:09", "strange": True}
    assert [entry["name"] for entry in got["interfaces"]] == ["x", ROUTED.host_ifname, "eth0"]
    assert [entry["interface"] for entry in got["ips"]] == [0, 2]
    assert [entry["dst"] for entry in got["routes"]] == ["192.0.2.0/24", "0.0.0.0/0"]
    assert (got["dns"], got["unknown"]) == (before["dns"], before["unknown"])


def test_E14_an_error_has_version_code_message_and_details() -> None:
    error = CniError(Code.TRY_AGAIN, 'full "\n', "details")
    assert json.loads(render_error(error, "0.4.0")) == {
        "cniVersion": "0.4.0",
        "code": 11,
        "msg": 'full "\n',
        "details": "details",
    }


@pytest.mark.parametrize(
    ("asked", "told"),
    [("0.4.0", "0.4.0"), ("9.9.9", "9.9.9"), ('1"', "1.1.0"), ("", "1.1.0"), ("1" * 17, "1.1.0")],
)
def test_V1_the_version_asked_in_is_told_back_if_it_can_be_one(asked: str, told: str) -> None:
    got = json.loads(render_versions(asked))
    assert got == {"cniVersion": told, "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize(
    ("entry", "mac", "mtu"),
    [
        pytest.param({"mac": "0A:00:00:00:00:01", "mtu": 1400}, "0a:00:00:00:00:01", 1400, id="both"),
        pytest.param({}, "", 0, id="neither"),
        pytest.param({"mac": 5, "mtu": "x"}, "", 0, id="nonsense"),
    ],
)
def test_C2_what_the_add_told_of_the_interface_is_found(entry: dict[str, Any], mac: str, mtu: int) -> None:
    result = {"interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": SANDBOX, **entry}]}
    assert interface_in(result, "eth0", SANDBOX) == Interface("eth0", mac, mtu, SANDBOX)


def test_C2_a_result_that_does_not_speak_of_the_interface() -> None:
    assert interface_in({"interfaces": "none"}, "eth0", SANDBOX) is None
    assert interface_in({}, "eth0", SANDBOX) is None
