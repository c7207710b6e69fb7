"""Every kind of workload in a lab: what ``kubenet apply`` makes of each, down to pods and names."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from kubenet.client.sync import SyncClient
from kubenet.controllers.jobs import JOBS
from kubenet.model.objects import Pod
from kubenet.model.resources import PODS
from kubenet.model.workloads import Job
from labs import ledger
from labs.ledger import LabDirectory
from tests.e2e.cluster import kubenet, lab, own

pytestmark = pytest.mark.e2e

PATIENCE_S = 30.0
TEMPLATE = """
    metadata: {{labels: {{app: {app}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: idle, image: kubenet.dev/idle}}]
"""


def workload(api_version: str, kind: str, app: str, more: str) -> str:
    selector = f"{{app: {app}}}" if kind == "ReplicationController" else f"{{matchLabels: {{app: {app}}}}}"
    return (
        f"---\napiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {app}}}\n"
        f"spec:\n  {more}\n  selector: {selector}\n  template:{TEMPLATE.format(app=app)}"
    )


MANIFEST = (
    workload("apps/v1", "DaemonSet", "agent", "minReadySeconds: 0")
    + workload("apps/v1", "StatefulSet", "db", "replicas: 2\n  serviceName: peers")
    + workload("v1", "ReplicationController", "old", "replicas: 2")
    + """
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: db}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  completions: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: work, image: none, command: [sh, -c, "test $(hostname) = once-$JOB_COMPLETION_INDEX"]}
"""
)


@pytest.fixture(scope="module")
def client() -> Iterator[SyncClient]:
    with lab(own("work"), "--nodes", "2") as name:
        kubenet("apply", "--name", name, "-f", "-", input=MANIFEST)
        yield SyncClient(ledger.read(LabDirectory(name)).server)


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def running(client: SyncClient, app: str) -> list[Pod]:
    pods = client.list(PODS, Pod)
    return [pod for pod in pods if pod.metadata.labels.get("app") == app and pod.ready]


def two_run(client: SyncClient, app: str) -> bool:
    return len(running(client, app)) == 2


def test_every_kind_becomes_running_pods(client: SyncClient) -> None:
    for app in ("agent", "db", "old"):
        until(f"two pods of {app}", partial(two_run, client, app))
    assert sorted(pod.spec.node_name for pod in running(client, "agent")) == ["node-1", "node-2"]
    assert sorted(pod.metadata.name for pod in running(client, "db")) == ["db-0", "db-1"]


def test_a_stateful_pod_is_found_by_its_own_name(client: SyncClient) -> None:
    until("the second member", partial(two_run, client, "db"))
    address = next(pod.status.pod_ip for pod in running(client, "db") if pod.metadata.name == "db-1")

    def resolves() -> bool:
        words = ("lab", "exec", "--name", own("work"), "default/db-0", "--", "getent", "hosts", "db-1.peers")
        return kubenet(*words, check=False).stdout.split()[:1] == [address]

    until("db-1.peers resolves", resolves)


def test_a_job_runs_to_its_end(client: SyncClient) -> None:
    def complete() -> bool:
        status = client.get(JOBS, "default", "once", Job).status
        return any(each.type == "Complete" for each in status.conditions)

    until("the job is complete", complete)
    status = client.get(JOBS, "default", "once", Job).status
    assert (status.succeeded, status.failed, status.completed_indexes) == (2, 0, "0,1")
