"""Rules as programs print them, and the objects that they are there for."""

from ipaddress import IPv4Address

import pytest

from kubenet.model.packet import FiveTuple, Packet
from kubenet.observe.names import Names, ServiceAt
from kubenet.observe.rule_text import RuleText, listing, object_of

NFT = """table ip nat { # handle 1
	chain PREROUTING { # handle 2
		type nat hook prerouting priority dstnat; policy accept;
		counter packets 1 bytes 60 jump KUBE-SERVICES # handle 9
		counter packets 0 bytes 0 # handle 12
	}
}
table ip6 nat { # handle 3
	chain PREROUTING { # handle 2
		type nat hook prerouting priority dstnat; policy accept;
		counter drop # handle 9
	}
}
table inet own { # handle 4
	chain c { # handle 1
		type filter hook forward priority filter; policy drop;
		ip daddr 10.0.0.1 accept comment "say "this"" # handle 5
	}
}
"""
SAVED = """*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -d 10.0.0.9/32 -m comment --comment short -j ACCEPT
COMMIT
"""
WEB = ServiceAt("shop/web", "http", ())
NAMES = Names(
    {IPv4Address("10.244.1.3"): "shop/web-1"},
    {(IPv4Address("10.96.0.80"), 6, 80): WEB},
    {},
    {IPv4Address("10.96.0.80"): "shop/web"},
)
PACKET = Packet(FiveTuple(IPv4Address("10.244.0.2"), IPv4Address("10.96.0.80"), 6, 4000, 80), 1, 64, 60)


def test_rules_of_iptables_get_their_words_by_their_place() -> None:
    found = listing(NFT, SAVED)
    assert found.rules["nat", "PREROUTING", 9] == RuleText("-j KUBE-SERVICES", "kubernetes service portals")
    assert found.rules["nat", "PREROUTING", 12] == RuleText("-d 10.0.0.9/32 -j ACCEPT", "short")
    assert found.by_iptables == {"nat"}


def test_hooks_and_policies_are_known_and_ipv6_is_another_table() -> None:
    found = listing(NFT)
    assert found.hooks == {("nat", "PREROUTING"): "prerouting", ("own", "c"): "forward"}
    assert found.policies["own", "c"] == "drop"
    assert found.rules["nat", "PREROUTING", 9].text.startswith("counter packets 1")


def test_a_comment_may_hold_quotes() -> None:
    assert listing(NFT).rules["own", "c", 5] == RuleText("ip daddr 10.0.0.1 accept", 'say "this"')


def test_legacy_rules_are_known_by_place() -> None:
    assert listing("", "", SAVED).rules["nat", "PREROUTING", 2].comment == "short"


@pytest.mark.parametrize(
    ("rule", "chain", "said"),
    [
        pytest.param(
            RuleText("-p tcp -j DNAT --to-destination 10.244.1.3:8080"),
            "KUBE-SEP-X",
            "endpoint shop/web-1 10.244.1.3:8080",
            id="an endpoint of iptables",
        ),
        pytest.param(
            RuleText("-j KUBE-SVC-X", "shop/web:http cluster IP"),
            "KUBE-SERVICES",
            "service shop/web:http",
            id="a comment",
        ),
        pytest.param(RuleText("-j X", "and/or not"), "KUBE-SERVICES", "", id="no Service of that name"),
        pytest.param(RuleText("vmap"), "dispatch", "service shop/web:http", id="our nftables table"),
        pytest.param(RuleText("vmap"), "other", "", id="somebody else's chain"),
        pytest.param(
            RuleText("dnat"),
            "endpoint-2CRNCTTE-shop/web/tcp/http__10.244.1.3/8080",
            "endpoint shop/web-1 10.244.1.3:8080",
            id="an endpoint of kube-proxy's nftables mode",
        ),
        pytest.param(
            RuleText("goto"),
            "service-ULMVA6XW-shop/web/tcp/http",
            "service shop/web:http",
            id="a service of it",
        ),
    ],
)
def test_a_rule_names_its_object(rule: RuleText, chain: str, said: str) -> None:
    assert object_of(rule, chain, PACKET, NAMES) == said
