"""Which nodes fit, as tables; and that the first refusal ends the questions."""

import pytest

from kubenet.model.objects import Json, JsonValue, Node, Pod, Taint, Toleration
from kubenet.scheduler.filters import FILTERS, Filter, Reasons, reasons_against
from kubenet.scheduler.views import NodeView, PodView
from tests.unit.scheduler.world import holding, node, pod, views, wanted

GPU = Taint(key="gpu", value="yes", effect="NoSchedule")
SMALL = {"cpu": "1", "memory": "1Gi", "pods": "2"}


@pytest.mark.parametrize(
    ("asks", "on", "expected"),
    [
        pytest.param(pod(), node(), (), id="an empty node takes a plain pod"),
        pytest.param(pod(), node(ready=False), ("node(s) were not ready",), id="not ready"),
        pytest.param(pod(), Node(), ("node(s) were not ready",), id="no condition yet"),
        pytest.param(
            pod(tolerations=(Toleration(key="node.kubernetes.io/not-ready", operator="Exists"),)),
            node(ready=False),
            (),
            id="not ready, tolerated",
        ),
        pytest.param(
            pod(
                tolerations=(
                    Toleration(key="node.kubernetes.io/not-ready", operator="Exists", effect="NoExecute"),
                )
            ),
            node(ready=False),
            ("node(s) were not ready",),
            id="the toleration that every pod is given is about staying, not about coming",
        ),
        pytest.param(pod(), node(unschedulable=True), ("node(s) were unschedulable",), id="cordoned"),
        pytest.param(
            pod(tolerations=(Toleration(operator="Exists"),)),
            node(unschedulable=True, taints=(GPU,)),
            (),
            id="a pod that tolerates everything",
        ),
        pytest.param(
            pod(on="n2"),
            node("n1"),
            ("node(s) didn't match the requested node name",),
            id="names another node",
        ),
        pytest.param(pod(on="n1"), node("n1"), (), id="names this node"),
        pytest.param(pod(), node(taints=(GPU,)), ("node(s) had untolerated taint {gpu: yes}",), id="tainted"),
        pytest.param(
            pod(),
            node(taints=(Taint(key="soft", effect="PreferNoSchedule"),)),
            (),
            id="only a wish to stay away",
        ),
        pytest.param(
            pod(tolerations=(Toleration(key="gpu", value="yes"),)),
            node(taints=(GPU,)),
            (),
            id="tolerated by value",
        ),
        pytest.param(
            pod(tolerations=(Toleration(key="gpu", value="no"),)),
            node(taints=(GPU,)),
            ("node(s) had untolerated taint {gpu: yes}",),
            id="another value is tolerated",
        ),
        pytest.param(
            pod(tolerations=(Toleration(key="gpu", operator="Exists", effect="NoExecute"),)),
            node(taints=(GPU,)),
            ("node(s) had untolerated taint {gpu: yes}",),
            id="another effect is tolerated",
        ),
        pytest.param(
            pod(selector={"disk": "ssd"}),
            node(labels={"disk": "hdd"}),
            ("node(s) didn't match Pod's node affinity/selector",),
            id="selects another label",
        ),
        pytest.param(
            pod(selector={"disk": "ssd"}), node(labels={"disk": "ssd", "zone": "a"}), (), id="selects a label"
        ),
        pytest.param(pod(cpu="1001m"), node(room=SMALL), ("Insufficient cpu",), id="too little cpu"),
        pytest.param(pod(cpu="1", memory="1Gi"), node(room=SMALL), (), id="exactly all there is"),
        pytest.param(
            pod(cpu="2", memory="2Gi"),
            node(room=SMALL),
            ("Insufficient cpu", "Insufficient memory"),
            id="all that is short is named",
        ),
        pytest.param(pod(), node(room={}), ("Too many pods",), id="a node that has not said what it has"),
    ],
)
def test_reasons_against_a_node(asks: Pod, on: Node, expected: Reasons) -> None:
    assert reasons_against(wanted(asks), views(on)[0]) == expected


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["ssd", "nvme"], True),
        ("In", ["hdd"], False),
        ("NotIn", ["hdd"], True),
        ("NotIn", ["ssd"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Gt", ["3"], False),
    ],
)
def test_a_required_node_affinity_is_kept(operator: str, values: list[str], fits: bool) -> None:
    assert _fits([{"matchExpressions": [{"key": "disk", "operator": operator, "values": [*values]}]}]) == fits


def test_terms_of_a_node_affinity_are_alternatives_and_their_parts_are_not() -> None:
    is_ssd: JsonValue = {"key": "disk", "operator": "In", "values": ["ssd"]}
    many: JsonValue = {"key": "cores", "operator": "Gt", "values": ["7"]}
    few: JsonValue = {"key": "cores", "operator": "Lt", "values": ["7"]}
    named: JsonValue = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    assert _fits([{"matchExpressions": [few]}, {"matchExpressions": [is_ssd, many]}])
    assert not _fits([{"matchExpressions": [is_ssd, few]}])
    assert _fits([{"matchFields": [named]}])
    assert not _fits([{}])


def _fits(terms: list[JsonValue]) -> bool:
    required: Json = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    asks = pod(affinity={"nodeAffinity": required})
    return not reasons_against(wanted(asks), views(node(labels={"disk": "ssd", "cores": "8"}))[0])


def test_what_other_pods_request_is_not_free() -> None:
    (empty,) = views(node(room=SMALL))
    half_full = holding(empty, pod("a", cpu="600m"))
    assert reasons_against(wanted(pod(cpu="400m")), half_full) == ()
    assert reasons_against(wanted(pod(cpu="401m")), half_full) == ("Insufficient cpu",)
    assert reasons_against(wanted(pod()), holding(half_full, pod("b"))) == ("Too many pods",)


@pytest.mark.parametrize(
    ("port", "fits"), [pytest.param(8080, False, id="taken"), pytest.param(8081, True, id="free")]
)
def test_a_host_port_is_taken_once_on_a_node(port: int, fits: bool) -> None:
    (empty,) = views(node())
    taken = holding(empty, pod("a", host_port=8080))
    reasons = reasons_against(wanted(pod("b", host_port=port)), taken)
    assert (reasons == ()) is fits


def test_the_first_refusal_ends_the_questions() -> None:
    asked: list[str] = []

    def counted(each: Filter) -> Filter:
        def question(asks: PodView, on: NodeView) -> Reasons:
            asked.append(each.__name__)
            return each(asks, on)

        return question

    filters = tuple(counted(each) for each in FILTERS)
    full = pod(cpu="100", host_port=80, selector={"disk": "ssd"})
    fitting, unlabelled, cordoned = views(
        node("n1", labels={"disk": "ssd"}), node("n2"), node("n3", unschedulable=True)
    )

    reasons_against(wanted(full), cordoned, filters)
    assert asked == ["is_open"]
    asked.clear()
    reasons_against(wanted(full), unlabelled, filters)
    assert asked == ["is_open", "has_name", "is_tolerated", "has_labels"]
    asked.clear()
    reasons_against(wanted(full), fitting, filters)
    assert asked == ["is_open", "has_name", "is_tolerated", "has_labels", "has_room"]
