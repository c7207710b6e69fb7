"""The pods of a Job, and the indexes of an Indexed one. *Pure.*

Source: Kubernetes documentation, "Jobs" (completion mode); API reference, JobStatus completedIndexes.
"""

from collections.abc import Iterable

from kubenet.controllers.templates import named_pod
from kubenet.model.objects import Json, Pod
from kubenet.model.resources import PODS, Resource
from kubenet.model.workloads import Job
from kubenet.model.writes import Create

INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
NOBODY = -1
_NAME_MOST = 63 - len("-2147483647")  # so that an index still fits into a host name


def index_of(pod: Pod) -> int:
    """Return a pod's index, NOBODY for one without."""
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isascii() and text.isdecimal() else NOBODY


def parse_indexes(text: str) -> frozenset[int]:
    """Return the indexes that ``1,3-5`` means."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found |= {*range(int(first), int(last or first) + 1)}
    return frozenset(found)


def write_indexes(indexes: Iterable[int]) -> str:
    """Return indexes as ``1,3-5``."""
    runs: list[tuple[int, int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    # Two in a row are written one by one.
    return ",".join(_run(first, last) for first, last in runs)


def _run(first: int, last: int) -> str:
    if last - first < 2:
        return ",".join(str(each) for each in range(first, last + 1))
    return f"{first}-{last}"


def new_pod(resource: Resource, job: Job, index: int | None) -> Create:
    """Return the creation of a pod, for ``index`` if the Job is an Indexed one."""
    body = named_pod(resource, job, job.spec.template)
    if index is not None:
        _mark(body, job, index)
    return Create(PODS, job.metadata.namespace, body)


def _mark(body: Json, job: Job, index: int) -> None:
    """Tell the pod its index: in its name, host name, label, annotation and environment."""
    metadata, spec = body["metadata"], body["spec"]
    assert isinstance(metadata, dict)
    assert isinstance(spec, dict)
    name = f"{job.metadata.name[:_NAME_MOST]}-{index}"
    metadata["generateName"] = f"{name[: 63 - 6]}-"
    spec.setdefault("hostname", name)
    for place in ("labels", "annotations"):
        known = metadata.get(place)
        metadata[place] = {**(known if isinstance(known, dict) else {}), INDEX: str(index)}
    for group in ("containers", "initContainers"):
        containers = spec.get(group)
        for container in containers if isinstance(containers, list) else ():
            assert isinstance(container, dict)
            env = container.get("env")
            variable: Json = {"name": INDEX_VARIABLE, "value": str(index)}
            container["env"] = [*(env if isinstance(env, list) else ()), variable]
