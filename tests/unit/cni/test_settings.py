"""The administrator's file."""

from ipaddress import ip_network

import pytest

from cni.settings import DirectRouting, Settings, read_settings
from ipam.pool import PoolRules
from kubenet.errors import InvalidInput


@pytest.mark.parametrize(
    ("content", "want"),
    [
        pytest.param("", Settings(), id="an empty file"),
        pytest.param(
            "nonMasqueradeCIDRs:\n- 10.0.0.0/8\n- fd00::/8\nresyncInterval: 60s\n",
            Settings((ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
            id="a file of ip-masq-agent",
        ),
        pytest.param("directRouting: on", Settings((), DirectRouting.ON), id="on, a truth value in YAML"),
        pytest.param('directRouting: "off"', Settings(), id="off as text"),
        pytest.param("directRouting: auto", Settings((), DirectRouting.AUTO), id="auto"),
        pytest.param(
            "excludedCIDRs: [10.244.1.0/28]\naddressCooldownSeconds: 7.5",
            Settings(pool_rules=PoolRules((ip_network("10.244.1.0/28"),), 7.5)),
            id="addresses",
        ),
    ],
)
def test_a_file_says_what_it_says(content: str, want: Settings) -> None:
    assert read_settings(content, "agent.yaml") == want


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("nonMasqueradeCIDRs: [10.0.0.1/8]", id="a range with host bits"),
        pytest.param("nonMasqueradeCIDRs: 7", id="no list"),
        pytest.param("directRouting: sometimes", id="an unknown word"),
        pytest.param("addressCooldownSeconds: -1", id="less than no time"),
        pytest.param("excludedCIDRs: [nothing]", id="no range"),
        pytest.param("- a list", id="no mapping"),
        pytest.param("{", id="no YAML"),
    ],
)
def test_a_broken_file_is_refused_by_its_name(content: str) -> None:
    with pytest.raises(InvalidInput, match=r"agent\.yaml"):
        read_settings(content, "agent.yaml")
