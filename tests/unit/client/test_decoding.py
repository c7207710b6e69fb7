"""Bytes of the server become inputs of the reflector."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.client.decoding import ReplyDecoder
from kubenet.client.errors import (
    ApiError,
    Conflict,
    Gone,
    NotAllowed,
    ObjectExists,
    ObjectNotFound,
    api_error,
)
from kubenet.client.lines import LineSplitter
from kubenet.client.reflector import Event, EventKind, Garbage, Page, Refused
from kubenet.model.objects import ObjectMeta, Pod, PodSpec


def decoder(skipped: list[str] | None = None) -> ReplyDecoder[Pod]:
    return ReplyDecoder(Pod, lambda key, reason: (skipped if skipped is not None else []).append(key))


def pod(name: str, version: str, node: str = "") -> Pod:
    return Pod(metadata=ObjectMeta(name=name, resource_version=version), spec=PodSpec(node_name=node))


def raw(name: str, version: str, **spec: object) -> dict[str, object]:
    return {"kind": "Pod", "metadata": {"name": name, "resourceVersion": version}, "spec": spec}


def line(kind: str, body: object) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode()


def test_a_page_is_decoded_with_its_version_and_token() -> None:
    body = {"metadata": {"resourceVersion": "9", "continue": "t"}, "items": [raw("a", "7", nodeName="n1")]}
    assert decoder().page(json.dumps(body).encode()) == Page([pod("a", "7", "n1")], "9", "t")


def test_a_list_of_nothing_may_be_null() -> None:
    assert decoder().page(b'{"metadata":{"resourceVersion":"9"},"items":null}') == Page([], "9", "")


def test_one_unreadable_object_does_not_hide_the_others() -> None:
    skipped: list[str] = []
    items = [raw("a", "7"), raw("b", "8", containers="none"), raw("c", "9")]
    body = json.dumps({"metadata": {"resourceVersion": "9"}, "items": items}).encode()
    assert decoder(skipped).page(body) == Page([pod("a", "7"), pod("c", "9")], "9", "")
    assert skipped == ["b"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>gateway</html>", id="not JSON"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"items":[]}', id="a list without a version"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"[]", id="an array"),
    ],
)
def test_B8_1_what_is_no_list_is_garbage(body: bytes) -> None:
    assert decoder().page(body) == Garbage()


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_events_are_decoded(kind: str) -> None:
    assert decoder().event(line(kind, raw("a", "7"))) == Event(EventKind(kind), "7", pod("a", "7"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"kind": "Pod", "metadata": {"resourceVersion": "7"}}, id="as kubenet sends it"),
        pytest.param(
            {"metadata": {"resourceVersion": "7", "creationTimestamp": None}, "spec": {"containers": None}},
            id="as Go servers send it, with an empty spec",
        ),
    ],
)
def test_B8_1_a_bookmark_is_a_version_without_an_object(body: object) -> None:
    assert decoder().event(line("BOOKMARK", body)) == Event(EventKind.BOOKMARK, "7", None)


def test_B8_1_an_error_event_is_the_same_as_a_refusal() -> None:
    status = {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"}
    assert decoder().event(line("ERROR", status)) == Refused(410)


def test_an_error_event_may_say_when_to_come_back() -> None:
    status = {"kind": "Status", "status": "Failure", "code": 429, "details": {"retryAfterSeconds": 4}}
    assert decoder().event(line("ERROR", status)) == Refused(429, 4.0)


def test_an_error_event_may_say_that_our_version_is_of_the_future() -> None:
    details = {"causes": [{"reason": "ResourceVersionTooLarge"}]}
    status = {"kind": "Status", "status": "Failure", "code": 504, "details": details}
    assert decoder().event(line("ERROR", status)) == Refused(504, None, True)


def test_an_event_with_an_unreadable_object_still_moves_the_version() -> None:
    skipped: list[str] = []
    event = decoder(skipped).event(line("MODIFIED", raw("a", "7", containers=3)))
    assert (event, skipped) == (Event(EventKind.MODIFIED, "7", None), ["a"])


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b'{"type":"ADDED","object":{"meta', id="half a line"),
        pytest.param(b"nonsense", id="not JSON"),
        pytest.param(line("CHANGED", raw("a", "7")), id="an unknown type"),
        pytest.param(line("ADDED", {"metadata": {"name": "a"}}), id="no version"),
        pytest.param(b"null", id="null"),
    ],
)
def test_B8_1_what_is_no_event_is_garbage(bad: bytes) -> None:
    assert decoder().event(bad) == Garbage()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        pytest.param(404, "NotFound", ObjectNotFound, id="404"),
        pytest.param(409, "AlreadyExists", ObjectExists, id="409 on create"),
        pytest.param(409, "Conflict", Conflict, id="409 on update"),
        pytest.param(410, "Expired", Gone, id="410"),
        pytest.param(401, "Unauthorized", NotAllowed, id="401"),
        pytest.param(403, "Forbidden", NotAllowed, id="403"),
        pytest.param(422, "Invalid", ApiError, id="422"),
    ],
)
def test_a_status_object_becomes_an_error_with_its_own_words(
    code: int, reason: str, kind: type[ApiError]
) -> None:
    body = json.dumps({"kind": "Status", "message": 'pods "a" says no', "reason": reason, "code": code})
    error = api_error(code, body.encode(), "GET /x")
    assert type(error) is kind
    assert (error.status, error.reason, str(error)) == (code, reason, 'pods "a" says no')


def test_a_reply_without_a_status_object_names_the_request() -> None:
    assert str(api_error(502, b"Bad Gateway", "GET /api")) == "GET /api: HTTP 502: Bad Gateway"


@pytest.mark.parametrize(
    ("header", "seconds", "expected"),
    [
        pytest.param("7", None, 7.0, id="the header"),
        pytest.param("", 3, 3.0, id="the Status"),
        pytest.param("Fri, 01 Jan 2027 00:00:00 GMT", 3, 3.0, id="a date is not read"),
        pytest.param("", None, None, id="neither"),
    ],
)
def test_when_to_come_back(header: str, seconds: int | None, expected: float | None) -> None:
    body = json.dumps({"details": {"retryAfterSeconds": seconds}}).encode()
    assert api_error(429, body, "GET /x", header).retry_after_s == expected


@given(st.lists(st.binary(min_size=1).filter(lambda b: b.strip() and b"\n" not in b)), st.data())
def test_lines_do_not_depend_on_how_the_bytes_were_cut(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(each + b"\n" for each in lines)
    splitter, got = LineSplitter(), list[bytes]()
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        got += splitter.feed(whole[:size])
        whole = whole[size:]
    assert got == lines
    assert splitter.half_line == b""


def test_half_a_line_is_never_given_out() -> None:
    splitter = LineSplitter()
    assert list(splitter.feed(b"one\n\r\ntw")) == [b"one"]
    assert splitter.half_line == b"tw"
