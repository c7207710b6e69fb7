"""Whether every pod came to run, and who keeps the one that did not. *Pure.*"""

from collections.abc import Iterator

from kubenet.model.objects import Pod
from kubenet.observe.checks.base import Verdict
from kubenet.observe.findings import Finding
from kubenet.observe.snapshot import Snapshot

_OVER = ("Succeeded", "Failed")


def check_pods(snapshot: Snapshot) -> Verdict:
    """Tell of each pod that does not run whose turn it is."""
    pods = [pod for pod in snapshot.cluster.pods if pod.metadata.deletion_timestamp is None]
    findings = tuple(finding for pod in pods for finding in _waits(snapshot, pod))
    return Verdict("pods", f"{len(pods)} pods: placed, started", findings, len(pods))


def _waits(snapshot: Snapshot, pod: Pod) -> Iterator[Finding]:
    key, node = pod.metadata.key, pod.spec.node_name
    if pod.status.phase != "Pending":
        return
    step = f"kubectl describe pod -n {pod.metadata.namespace} {pod.metadata.name}"
    if not node:
        log = "kubenet lab logs scheduler" if snapshot.in_lab else step
        yield Finding("E_POD_UNSCHEDULED", key, f"{key} has no node: nothing of the scheduler yet", log)
    elif message := _message(pod):
        yield Finding("E_POD_PENDING", node, f"{key} waits on {node}: {message}", step)
    elif not pod.status.conditions:
        log = f"kubenet lab logs {node}/kubelet" if snapshot.in_lab else "journalctl -u kubelet"
        yield Finding("E_POD_UNSEEN", node, f"{key} is for {node}, which has said nothing of it", log)


def _message(pod: Pod) -> str:
    """Return why the pod is not started, as the node agent tells it."""
    for status in pod.status.container_statuses:
        if status.state.waiting and status.state.waiting.message:
            return status.state.waiting.message
    return next((c.message for c in pod.status.conditions if c.status == "False" and c.message), "")
