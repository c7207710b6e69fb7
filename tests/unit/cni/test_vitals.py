"""How the agent says that it is well."""

import pytest

from cni.vitals import STALE_AFTER_S, Vitals, answer


def asked(vitals: Vitals, request: str, now_s: float = 100.0) -> tuple[int, str]:
    head, _, body = answer(vitals, request.encode(), now_s).decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


def synced() -> Vitals:
    vitals = Vitals(attachments=lambda: 3)
    vitals.began()
    vitals.ended(0.02, 100.0, 7)
    return vitals


def test_an_agent_is_well_once_its_node_has_a_network_and_as_long_as_it_looks_after_it() -> None:
    assert asked(Vitals(), "GET /healthz HTTP/1.1\r\n")[0] == 503
    vitals = synced()
    assert asked(vitals, "GET /healthz HTTP/1.1\r\n") == (200, "ok\n")
    assert asked(vitals, "GET /healthz HTTP/1.1\r\n", 101 + STALE_AFTER_S)[0] == 503
    vitals.failed("eth0: the node has no such link")
    assert asked(vitals, "GET /healthz HTTP/1.1\r\n") == (503, "eth0: the node has no such link\n")


def test_the_metrics_are_what_prometheus_reads() -> None:
    status, body = asked(synced(), "GET /metrics HTTP/1.1\r\n")
    assert status == 200
    assert "# TYPE kubenet_agent_peers gauge\nkubenet_agent_peers 7\n" in body
    assert "kubenet_agent_attachments 3\n" in body


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        pytest.param("GET /secret HTTP/1.1", 404, id="another page"),
        pytest.param("POST /healthz HTTP/1.1", 400, id="another verb"),
        pytest.param("\x00\xff", 400, id="no request"),
    ],
)
def test_other_requests_are_refused(request_line: str, status: int) -> None:
    assert asked(synced(), request_line + "\r\n")[0] == status
