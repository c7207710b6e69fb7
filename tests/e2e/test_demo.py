"""The promise of the front page: one command, a whole cluster, real traffic, nothing left."""

import re

import pytest

from tests.e2e.cluster import kubenet, leftovers, own

pytestmark = pytest.mark.e2e


def test_the_demo_shows_every_step_and_leaves_nothing() -> None:
    said = kubenet("demo", "--name", own("demo")).stdout
    for step in (
        "boot 3 nodes",
        "apply the manifest",
        "wait for pods and endpoints",
        "resolve names in the client pod",
        "send 60 requests, balance random",
        "send 60 requests, balance round-robin",
        "delete a pod under load",
        "tear down",
        "links, rules and settings of this machine are as they were",
    ):
        assert re.search(rf"^ok +{re.escape(step)}", said, re.MULTILINE), said
    assert "web.demo.svc.cluster.local" in said
    assert re.search(r"packets received by kubenet\.1 on all nodes: [1-9]", said)
    assert "same node" in said
    assert "over kubenet.1" in said
    counts = [int(count) for count in re.findall(r"(?:same node|over kubenet\.1) +(\d+) ", said)]
    assert len(counts) == 8
    assert sum(counts[:4]) == sum(counts[4:]) == 60
    assert counts[4:] == [15, 15, 15, 15]
    assert leftovers(own("demo")) == []
