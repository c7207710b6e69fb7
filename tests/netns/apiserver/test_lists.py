"""Lists: selectors, pages, and how fresh they are."""

import asyncio
import base64
import json

import pytest

from kubenet.apiserver.entries import CacheLimits
from kubenet.apiserver.http import ServerConfig
from tests.netns.apiserver.server import (
    CONFIGMAPS,
    DEFAULT,
    NS,
    PODS,
    TABLE,
    Api,
    Value,
    configmap,
    on_server,
    pod,
)


def names(listed: Value) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


async def make_pods(api: Api) -> None:
    for name, node, labels in (
        ("a", "n1", {"app": "web", "tier": "front"}),
        ("b", "n2", {"app": "web"}),
        ("c", "n1", {"app": "db"}),
    ):
        value = pod(name, nodeName=node)
        value["metadata"]["labels"] = labels
        await api.post(PODS, value)
    await api.patch(f"{PODS}/b/status", {"status": {"phase": "Running", "podIP": "10.0.0.2"}})


def test_B2_8_the_items_of_a_list_carry_no_kind_of_their_own() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a"))
        listed = (await api.get(CONFIGMAPS)).ok
        assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
        assert listed["items"][0].keys() == {"metadata", "data"}
        assert listed["metadata"]["resourceVersion"] == listed["items"][0]["metadata"]["resourceVersion"]
        assert (await api.get(f"{NS}/none/configmaps")).ok["items"] == []

    on_server(case)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param("app=web", "ab", id="equal"),
        pytest.param("app==web", "ab", id="equal, spelled twice"),
        pytest.param("app!=web", "c", id="not equal"),
        pytest.param("app in (web, db)", "abc", id="in"),
        pytest.param("app notin (web)", "c", id="not in"),
        pytest.param("tier", "a", id="exists"),
        pytest.param("!tier", "bc", id="does not exist"),
        pytest.param("app=web,!tier", "b", id="two requirements"),
        pytest.param("tier!=front", "bc", id="not equal holds where the label is missing"),
    ],
)
def test_B4_1_label_selectors(selector: str, expected: str) -> None:
    async def case(api: Api) -> None:
        await make_pods(api)
        assert "".join(names((await api.get(PODS, labelSelector=selector)).ok)) == expected

    on_server(case)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param("metadata.name=b", "b", id="name"),
        pytest.param("metadata.namespace=default", "abc", id="namespace"),
        pytest.param("metadata.namespace!=default", "", id="another namespace"),
        pytest.param("spec.nodeName=n1", "ac", id="node"),
        pytest.param("spec.nodeName=n1,metadata.name!=a", "c", id="two terms"),
        pytest.param("status.phase==Running", "b", id="phase"),
        pytest.param("status.podIP=10.0.0.2", "b", id="address"),
        pytest.param("status.podIP=", "ac", id="no address"),
        pytest.param("spec.restartPolicy=Always", "abc", id="restart policy"),
        pytest.param("spec.schedulerName=other", "", id="scheduler"),
    ],
)
def test_B4_2_field_selectors(selector: str, expected: str) -> None:
    async def case(api: Api) -> None:
        await make_pods(api)
        assert "".join(names((await api.get("/api/v1/pods", fieldSelector=selector)).ok)) == expected

    on_server(case)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        pytest.param({"labelSelector": "a in (b"}, "unable to parse requirement", id="open parenthesis"),
        pytest.param({"labelSelector": "a b"}, "unable to parse requirement", id="two words"),
        pytest.param({"labelSelector": "a=b,,c"}, "unable to parse requirement", id="empty requirement"),
        pytest.param({"labelSelector": "a/b/c=d"}, "unable to parse requirement", id="no label key"),
        pytest.param({"labelSelector": "a=b,"}, "unable to parse requirement", id="comma at the end"),
        pytest.param({"fieldSelector": "spec.image=a"}, "field label not supported", id="unknown field"),
        pytest.param({"fieldSelector": "metadata.name"}, "invalid selector", id="no value"),
        pytest.param({"limit": "many"}, "limit", id="limit is no number"),
        pytest.param({"limit": "-1"}, "limit", id="limit is negative"),
        pytest.param({"continue": "???"}, "continue key is not valid", id="a token nobody gave"),
        pytest.param({"resourceVersion": "x"}, "resourceVersion", id="revision is no number"),
        pytest.param({"watch": "perhaps"}, "watch", id="a flag that is neither"),
        pytest.param(
            {"continue": base64.urlsafe_b64encode(b'{"rv":1,"start":"x"}').decode(), "resourceVersion": "5"},
            "not allowed when using continue",
            id="a token and a revision",
        ),
    ],
)
def test_B4_what_cannot_be_meant_is_refused(params: dict[str, str], words: str) -> None:
    async def case(api: Api) -> None:
        assert words in (await api.get(PODS, **params)).refused(400, "BadRequest")

    on_server(case)


def test_B4_3_pages_are_one_consistent_snapshot() -> None:
    async def case(api: Api) -> None:
        for index in range(7):
            await api.post(CONFIGMAPS, configmap(f"c{index}", v="old"))
        first = (await api.get(CONFIGMAPS, limit="3")).ok
        assert names(first) == ["c0", "c1", "c2"]
        assert first["metadata"]["remainingItemCount"] == 4
        # Between the pages: one changes, one goes, one comes, one goes and comes back.
        await api.patch(f"{CONFIGMAPS}/c3", {"data": {"v": "new"}})
        await api.delete(f"{CONFIGMAPS}/c4")
        await api.post(CONFIGMAPS, configmap("c3b"))
        await api.delete(f"{CONFIGMAPS}/c5")
        await api.post(CONFIGMAPS, configmap("c5", v="new"))
        token = first["metadata"]["continue"]
        second = (await api.get(CONFIGMAPS, limit="3", **{"continue": token})).ok
        assert names(second) == ["c3", "c4", "c5"]
        assert [item["data"]["v"] for item in second["items"]] == ["old"] * 3
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        assert second["metadata"]["remainingItemCount"] == 1
        last = (await api.get(CONFIGMAPS, limit="3", **{"continue": second["metadata"]["continue"]})).ok
        assert names(last) == ["c6"]
        assert "continue" not in last["metadata"]

    on_server(case)


def test_B4_3_pages_with_a_selector_count_nothing_and_skip_nothing() -> None:
    async def case(api: Api) -> None:
        for index in range(10):
            value = configmap(f"c{index}")
            value["metadata"]["labels"] = {"odd": str(index % 2)}
            await api.post(CONFIGMAPS, value)
        first = (await api.get(CONFIGMAPS, limit="2", labelSelector="odd=1")).ok
        assert names(first) == ["c1", "c3"]
        assert "remainingItemCount" not in first["metadata"]
        token = first["metadata"]["continue"]
        rest = (await api.get(CONFIGMAPS, labelSelector="odd=1", **{"continue": token})).ok
        assert names(rest) == ["c5", "c7", "c9"]

    on_server(case)


def test_B4_3_an_expired_page_offers_to_go_on_inconsistently() -> None:
    async def case(api: Api) -> None:
        for index in range(4):
            await api.post(CONFIGMAPS, configmap(f"c{index}"))
        token = (await api.get(CONFIGMAPS, limit="2")).ok["metadata"]["continue"]
        for index in range(3):  # more changes than the server keeps
            await api.patch(f"{CONFIGMAPS}/c0", {"data": {"v": str(index)}})
        expired = await api.get(CONFIGMAPS, limit="2", **{"continue": token})
        assert "too old to display a consistent list" in expired.refused(410, "Expired")
        token = expired.json["metadata"]["continue"]
        rest = (await api.get(CONFIGMAPS, limit="2", **{"continue": token})).ok
        assert names(rest) == ["c2", "c3"]

    on_server(case, ServerConfig(cache=CacheLimits(changes_most=2)))


def test_B4_4_a_list_is_not_older_than_asked() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a"))
        now = (await api.get(CONFIGMAPS)).ok["metadata"]["resourceVersion"]
        for revision in ("", "0", "1", now):
            assert names((await api.get(CONFIGMAPS, resourceVersion=revision)).ok) == ["a"]
        later = str(int(now) + 1)
        waiting = asyncio.ensure_future(api.get(CONFIGMAPS, resourceVersion=later))
        one = asyncio.ensure_future(api.get(f"{CONFIGMAPS}/a", resourceVersion=later))
        await api.post(CONFIGMAPS, configmap("b"))
        assert names((await waiting).ok) == ["a", "b"]
        assert (await one).ok["metadata"]["name"] == "a"

    on_server(case)


def test_B4_4_an_exact_revision_is_served_while_it_is_kept() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a", v="1"))
        then = (await api.get(CONFIGMAPS)).ok["metadata"]["resourceVersion"]
        await api.patch(f"{CONFIGMAPS}/a", {"data": {"v": "2"}})
        exact = {"resourceVersion": then, "resourceVersionMatch": "Exact"}
        listed = (await api.get(CONFIGMAPS, **exact)).ok
        assert (listed["items"][0]["data"], listed["metadata"]["resourceVersion"]) == ({"v": "1"}, then)
        for index in range(3):
            await api.patch(f"{CONFIGMAPS}/a", {"data": {"v": f"more {index}"}})
        (await api.get(CONFIGMAPS, **exact)).refused(410, "Expired")

    on_server(case, ServerConfig(cache=CacheLimits(changes_most=2)))


def test_B4_4_a_revision_that_never_comes_times_out() -> None:
    async def case(api: Api) -> None:
        reply = await api.get(CONFIGMAPS, resourceVersion="999")
        assert "Too large resource version: 999" in reply.refused(504, "Timeout")
        assert reply.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
        assert reply.headers["Retry-After"] == "1"

    on_server(case, ServerConfig(cache=CacheLimits(freshness_wait_s=0.01)))


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"resourceVersionMatch": "Exact"}, id="exact without a revision"),
        pytest.param({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, id="exactly zero"),
        pytest.param({"resourceVersionMatch": "Roughly", "resourceVersion": "1"}, id="unknown"),
        pytest.param({"sendInitialEvents": "true"}, id="initial events of a list"),
    ],
)
def test_B4_4_wrong_combinations_are_refused(params: dict[str, str]) -> None:
    async def case(api: Api) -> None:
        (await api.get(CONFIGMAPS, **params)).refused(422, "Invalid")

    on_server(case)


def test_B2_6_metadata_alone() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a", secret="x"))
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        listed = (await api.get(CONFIGMAPS, accept=accept)).ok
        assert listed["kind"] == "PartialObjectMetadataList"
        assert listed["items"][0].keys() == {"kind", "apiVersion", "metadata"}
        accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        one = (await api.get(f"{CONFIGMAPS}/a", accept=accept)).ok
        assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "a")
        assert "data" not in one

    on_server(case)


@pytest.mark.parametrize(
    ("include", "keys"),
    [
        pytest.param("", {"kind", "apiVersion", "metadata"}, id="metadata by default"),
        pytest.param("Metadata", {"kind", "apiVersion", "metadata"}, id="metadata"),
        pytest.param("Object", {"kind", "apiVersion", "metadata", "data"}, id="the object"),
        pytest.param("None", None, id="nothing"),
    ],
)
def test_B2_5_a_table_carries_what_is_asked_for(include: str, keys: set[str] | None) -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a", x="1", y="2"))
        for path in (CONFIGMAPS, f"{CONFIGMAPS}/a"):
            table = (await api.get(path, accept=TABLE, includeObject=include)).ok
            assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
            assert [one["name"] for one in table["columnDefinitions"]] == ["Name", "Data", "Age"]
            assert table["metadata"]["resourceVersion"]
            row = table["rows"][0]
            assert row["cells"][:2] == ["a", 2]
            assert (row["object"].keys() if row["object"] else None) == keys

    on_server(case)


def test_a_table_is_paged_like_a_list() -> None:
    async def case(api: Api) -> None:
        for name in "abc":
            await api.post(CONFIGMAPS, configmap(name))
        table = (await api.get(CONFIGMAPS, accept=TABLE, limit="2")).ok
        assert [row["cells"][0] for row in table["rows"]] == ["a", "b"]
        assert table["metadata"]["remainingItemCount"] == 1
        assert json.loads(base64.urlsafe_b64decode(table["metadata"]["continue"] + "=="))["rv"] > 0

    on_server(case)


def test_a_namespace_is_a_boundary_and_its_name_a_whole_word() -> None:
    async def case(api: Api) -> None:
        for space in ("team", "team-a"):
            await api.post(NS, {"metadata": {"name": space}})
            await api.post(f"{NS}/{space}/configmaps", configmap(f"in-{space}"))
        assert names((await api.get(f"{NS}/team/configmaps")).ok) == ["in-team"]
        assert sorted(names((await api.get("/api/v1/configmaps")).ok)) == ["in-team", "in-team-a"]
        assert names((await api.get(f"{DEFAULT}/configmaps")).ok) == []

    on_server(case)
