"""Small deciders, by tables: names, addresses, ownership, retention, edges of paths and durations."""

from collections import deque
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.apiserver.addresses import Claims, ServiceAddresses, claims_of
from kubenet.apiserver.names import (
    NameRule,
    dns_1035_label,
    dns_label,
    dns_subdomain,
    label_value,
    port_name,
    qualified_name,
)
from kubenet.apiserver.ownership import Owner, Verdict, verdict
from kubenet.apiserver.printers.base import human_duration
from kubenet.apiserver.registry.pods import qos_class
from kubenet.apiserver.registry.podspec import pull_policy
from kubenet.apiserver.retention import Retention, Sample, forgettable
from kubenet.apiserver.selectors import parse_label_selector, selector_text, selects
from kubenet.model.objects import Json, OwnerReference


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        pytest.param(
            dns_label, ("a", "a-b", "1a", "a" * 63), ("", "-a", "a-", "A", "a.b", "a" * 64, "ü"), id="label"
        ),
        pytest.param(
            dns_subdomain,
            ("a", "a.b", "1.2", "a-b.c"),
            ("", ".", "a.", ".a", "a..b", "A", "a_b"),
            id="subdomain",
        ),
        pytest.param(dns_1035_label, ("a", "a1", "a-1"), ("1a", "a.b", "", "a-"), id="service name"),
        pytest.param(
            port_name, ("http", "a-1", "1a"), ("", "80", "a--b", "-a", "HTTP", "a" * 16), id="port name"
        ),
        pytest.param(
            qualified_name,
            ("a", "A_b.c", "kubernetes.io/name", "a" * 63),
            ("", "/a", "a/", "a b", "-a", "A.io/x", "a/b/c", "a" * 64),
            id="label key",
        ),
        pytest.param(
            label_value, ("", "a", "1.0_B-c", "a" * 63), ("-a", "a b", "a/b", "a" * 64), id="label value"
        ),
    ],
)
def test_B3_3_names(rule: NameRule, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    assert [text for text in good if rule(text)] == []
    assert [text for text in bad if not rule(text)] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11000, "3h3m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (180000, "2d2h"),
        (691200, "8d"),
        (63071999, "729d"),
        (63072000, "2y"),
        (64000000, "2y10d"),
        (252288000, "8y"),
    ],
)
def test_ages_are_written_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("registry:5000/web", "Always"),
        ("registry:5000/web:1", "IfNotPresent"),
        ("web@sha256:abc", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        pytest.param([{}], "BestEffort", id="nothing asked for"),
        pytest.param([{"requests": {"cpu": "1"}}], "Burstable", id="some asked for"),
        pytest.param([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed", id="limits for both"),
        pytest.param(
            [{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}],
            "Burstable",
            id="less asked for than allowed",
        ),
        pytest.param([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable", id="one without"),
    ],
)
def test_the_quality_of_service_class(resources: list[Json], wanted: str) -> None:
    spec: Json = {"containers": [{"name": "c", "resources": one} for one in resources]}
    assert qos_class(spec) == wanted


REFERENCES = [OwnerReference(name="a"), OwnerReference(name="b")]


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        ((Owner.PRESENT, Owner.PRESENT), Verdict.KEEP),
        ((Owner.PRESENT, Owner.ABSENT), Verdict.KEEP),
        ((Owner.WAITING, Owner.PRESENT), Verdict.KEEP),
        ((Owner.ABSENT, Owner.ABSENT), Verdict.DELETE),
        ((Owner.WAITING, Owner.ABSENT), Verdict.DELETE_DEPENDENTS_FIRST),
    ],
)
def test_B3_12_an_object_stays_while_an_owner_does(states: tuple[Owner, Owner], wanted: Verdict) -> None:
    by_name = dict(zip("ab", states, strict=True))
    assert verdict(REFERENCES, lambda reference: by_name[reference.name]) is wanted
    assert verdict([], lambda reference: Owner.ABSENT) is Verdict.KEEP


@pytest.mark.parametrize(
    ("samples", "now", "wanted"),
    [
        pytest.param([(0, 5000)], (299, 9000), 0, id="nothing is old enough"),
        pytest.param([(0, 5000)], (300, 9000), 5000, id="five minutes have passed"),
        pytest.param([(0, 5000), (100, 6000), (200, 7000)], (400, 9000), 6000, id="the newest that is old"),
        pytest.param([(0, 5000)], (300, 5500), 4500, id="a thousand revisions stay"),
        pytest.param([(0, 5)], (300, 9), 0, id="less than a thousand in all"),
    ],
)
def test_history_is_kept_for_five_minutes_and_a_thousand_revisions(
    samples: list[tuple[float, int]], now: tuple[float, int], wanted: int
) -> None:
    assert forgettable(deque(Sample(*one) for one in samples), Sample(*now), Retention()) == wanted


def test_a_selector_is_written_as_it_is_parsed() -> None:
    selector: Json = {
        "matchLabels": {"b": "1"},
        "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]},
            {"key": "c", "operator": "NotIn", "values": ["z"]},
            {"key": "d", "operator": "Exists"},
            {"key": "e", "operator": "DoesNotExist"},
        ],
    }
    text = selector_text(selector)
    assert text == "a in (x,y),b=1,c notin (z),d,!e"
    assert set(parse_label_selector(text)) == set(parse_label_selector("!e, d ,c notin(z),b==1,a in ( y,x )"))
    assert selects(selector, {"a": "x", "b": "1", "d": ""})
    assert not selects(selector, {"a": "x", "b": "1", "d": "", "e": ""})


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(("", "x", "y")))


@given(LABELS, st.sampled_from("abc"), st.sampled_from(("", "x", "y")))
def test_B4_1_each_operator_is_the_opposite_of_another(labels: dict[str, str], key: str, value: str) -> None:
    def holds(text: str) -> bool:
        return all(requirement.matches(labels) for requirement in parse_label_selector(text))

    assert holds(f"{key}={value}") == (labels.get(key) == value)
    assert holds(f"{key}={value}") != holds(f"{key}!={value}")
    assert holds(f"{key} in (x,y)") != holds(f"{key} notin (x,y)")
    assert holds(key) != holds(f"!{key}")
    assert holds(f"{key}={value},{key}") == holds(f"{key}={value}")


SERVICES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(("create", "delete", "fail")),
        st.sampled_from(("", "10.0.0.3", "10.0.0.10", "None", "10.0.9.9", "x")),
        st.sampled_from(("ClusterIP", "NodePort")),
    ),
    max_size=40,
)


@given(SERVICES)
def test_B3_15_two_services_never_hold_the_same_address(
    history: list[tuple[str, str, str, str]],
) -> None:
    allocator, held = ServiceAddresses(IPv4Network("10.0.0.0/28")), dict[str, Claims]()
    for name, act, address, kind in history:
        if act == "delete" or name in held:
            allocator.free(held.pop(name, Claims()))
            continue
        ports: list[Json] = [{"port": 80}, {"port": 53, "protocol": "UDP"}]
        service: Json = {"spec": {"type": kind, "clusterIP": address, "ports": [*ports]}}
        assignment = allocator.assign(service)
        if assignment.causes or act == "fail":
            allocator.free(assignment.taken)
            continue
        held[name] = claims_of(service)
        assert held[name] == assignment.taken
        assert int(IPv4Address("10.0.0.10")) not in held[name].addresses or address == "10.0.0.10"
    everything = [number for claims in held.values() for number in (*claims.addresses, *claims.node_ports)]
    assert len(everything) == len(set(everything))
