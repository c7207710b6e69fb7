"""Workloads other than Deployments, as we read them. *Pure.*

Source: Kubernetes API reference v1.36, apps/v1, batch/v1 and core/v1 ReplicationController.
"""

import msgspec

from kubenet.model.objects import (
    Condition,
    KubeObject,
    ObjectReference,
    PodTemplate,
    ReplicaSet,
    ReplicaSetSpec,
    ReplicaSetStatus,
)
from kubenet.model.placement import LabelSelector
from kubenet.model.read import Read


class ControllerRevision(KubeObject, frozen=True):
    """A template that a workload has had."""

    revision: int = 0
    data: msgspec.Raw = msgspec.Raw(b"{}")


class RollingDaemons(Read, frozen=True):
    max_unavailable: int | str = 1
    max_surge: int | str = 0


class DaemonSetUpdate(Read, frozen=True):
    type: str = "RollingUpdate"
    rolling_update: RollingDaemons = RollingDaemons()


class DaemonSetSpec(Read, frozen=True):
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    update_strategy: DaemonSetUpdate = DaemonSetUpdate()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10


class DaemonSetStatus(Read, frozen=True):
    current_number_scheduled: int = 0
    number_misscheduled: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    observed_generation: int = 0


class DaemonSet(KubeObject, frozen=True):
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class RollingOrdinals(Read, frozen=True):
    partition: int = 0


class StatefulSetUpdate(Read, frozen=True):
    type: str = "RollingUpdate"
    rolling_update: RollingOrdinals = RollingOrdinals()


class Ordinals(Read, frozen=True):
    start: int = 0


class StatefulSetSpec(Read, frozen=True):
    replicas: int = 1
    service_name: str = ""
    pod_management_policy: str = "OrderedReady"
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    update_strategy: StatefulSetUpdate = StatefulSetUpdate()
    ordinals: Ordinals = Ordinals()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10


class StatefulSetStatus(Read, frozen=True):
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    observed_generation: int = 0


class StatefulSet(KubeObject, frozen=True):
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class JobSpec(Read, frozen=True):
    parallelism: int = 1
    completions: int | None = None  # None: the first success ends the job
    backoff_limit: int = 6
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()


class JobStatus(Read, frozen=True):
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    ready: int = 0
    terminating: int = 0
    start_time: str | None = None
    completion_time: str | None = None
    completed_indexes: str = ""
    conditions: tuple[Condition, ...] = ()


class Job(KubeObject, frozen=True):
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class ReplicationControllerSpec(Read, frozen=True):
    replicas: int = 1
    min_ready_seconds: int = 0
    selector: dict[str, str] = {}  # noqa: RUF012  # msgspec copies it
    template: PodTemplate = PodTemplate()


class ReplicationController(KubeObject, frozen=True):
    spec: ReplicationControllerSpec = ReplicationControllerSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()

    @property
    def as_replicaset(self) -> ReplicaSet:
        """The same wish in the words of its successor."""
        spec = ReplicaSetSpec(
            replicas=self.spec.replicas,
            min_ready_seconds=self.spec.min_ready_seconds,
            selector=LabelSelector(match_labels=self.spec.selector),
            template=self.spec.template,
        )
        return ReplicaSet(metadata=self.metadata, spec=spec, status=self.status)


class CronJobSpec(Read, frozen=True):
    schedule: str = ""
    time_zone: str | None = None  # None is that of the controllers, UTC
    concurrency_policy: str = "Allow"
    suspend: bool = False
    starting_deadline_seconds: int | None = None
    successful_jobs_history_limit: int = 3
    failed_jobs_history_limit: int = 1
    job_template: PodTemplate = PodTemplate()  # a Job's metadata and specification


class CronJobStatus(Read, frozen=True):
    active: tuple[ObjectReference, ...] = ()
    last_schedule_time: str | None = None
    last_successful_time: str | None = None


class CronJob(KubeObject, frozen=True):
    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()
