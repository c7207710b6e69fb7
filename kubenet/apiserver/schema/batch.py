"""The kinds that run pods other than one by one: batch, and the rest of apps and autoscaling. *Pure.*

The notation is that of ``types.py``.

Source: the field numbers of Kubernetes 1.33, generated.proto of apps/v1, batch/v1, autoscaling/v1 and v2.
"""

MESSAGES = """
autoscaling.v1.HorizontalPodAutoscaler: metadata:ObjectMeta=1
  spec:autoscaling.v1.HorizontalPodAutoscalerSpec=2 status:autoscaling.v1.HorizontalPodAutoscalerStatus=3
autoscaling.v1.HorizontalPodAutoscalerSpec: scaleTargetRef:CrossVersionObjectReference=1 minReplicas:int!=2
  maxReplicas:int!=3 targetCPUUtilizationPercentage:int!=4
autoscaling.v1.HorizontalPodAutoscalerStatus: observedGeneration:int!=1 lastScaleTime:Time=2
  currentReplicas:int!=3 desiredReplicas:int!=4 currentCPUUtilizationPercentage:int!=5
ContainerResourceMetricSource: name=1 target:MetricTarget=2 container=3
ContainerResourceMetricStatus: name=1 current:MetricValueStatus=2 container=3
ControllerRevision: metadata:ObjectMeta=1 data:RawExtension=2 revision:int!=3
CronJob: metadata:ObjectMeta=1 spec:CronJobSpec=2 status:CronJobStatus=3
CronJobSpec: schedule=1 startingDeadlineSeconds:int!=2 concurrencyPolicy=3 suspend:bool!=4
  jobTemplate:JobTemplateSpec=5 successfulJobsHistoryLimit:int!=6 failedJobsHistoryLimit:int!=7
  timeZone:string!=8
CronJobStatus: active:[ObjectReference]=1 lastScheduleTime:Time=4 lastSuccessfulTime:Time=5
CrossVersionObjectReference: kind=1 name=2 apiVersion=3
DaemonSet: metadata:ObjectMeta=1 spec:DaemonSetSpec=2 status:DaemonSetStatus=3
DaemonSetCondition: type=1 status=2 lastTransitionTime:Time=3 reason=4 message=5
DaemonSetSpec: selector:LabelSelector=1 template:PodTemplateSpec=2 updateStrategy:DaemonSetUpdateStrategy=3
  minReadySeconds:int=4 revisionHistoryLimit:int!=6
DaemonSetStatus: currentNumberScheduled:int!=1 numberMisscheduled:int!=2 desiredNumberScheduled:int!=3
  numberReady:int!=4 observedGeneration:int=5 updatedNumberScheduled:int=6 numberAvailable:int=7
  numberUnavailable:int=8 collisionCount:int!=9 conditions:[DaemonSetCondition|type]=10
DaemonSetUpdateStrategy: type=1 rollingUpdate:RollingUpdateDaemonSet=2
ExternalMetricSource: metric:MetricIdentifier=1 target:MetricTarget=2
ExternalMetricStatus: metric:MetricIdentifier=1 current:MetricValueStatus=2
HPAScalingPolicy: type=1 value:int!=2 periodSeconds:int!=3
HPAScalingRules: selectPolicy=1 policies:[HPAScalingPolicy]=2 stabilizationWindowSeconds:int!=3
  tolerance:Quantity=4
HorizontalPodAutoscaler: metadata:ObjectMeta=1 spec:HorizontalPodAutoscalerSpec=2
  status:HorizontalPodAutoscalerStatus=3
HorizontalPodAutoscalerBehavior: scaleUp:HPAScalingRules=1 scaleDown:HPAScalingRules=2
HorizontalPodAutoscalerCondition: type=1 status=2 lastTransitionTime:Time=3 reason=4 message=5
HorizontalPodAutoscalerSpec: scaleTargetRef:CrossVersionObjectReference=1 minReplicas:int!=2
  maxReplicas:int!=3 metrics:[MetricSpec]=4 behavior:HorizontalPodAutoscalerBehavior=5
HorizontalPodAutoscalerStatus: observedGeneration:int!=1 lastScaleTime:Time=2 currentReplicas:int=3
  desiredReplicas:int!=4 currentMetrics:[MetricStatus]=5
  conditions:[HorizontalPodAutoscalerCondition|type]=6
Job: metadata:ObjectMeta=1 spec:JobSpec=2 status:JobStatus=3
JobCondition: type=1 status=2 lastProbeTime:Time=3 lastTransitionTime:Time=4 reason=5 message=6
JobSpec: parallelism:int!=1 completions:int!=2 activeDeadlineSeconds:int!=3 selector:LabelSelector=4
  manualSelector:bool!=5 template:PodTemplateSpec=6 backoffLimit:int!=7 ttlSecondsAfterFinished:int!=8
  completionMode=9 suspend:bool!=10 podFailurePolicy:PodFailurePolicy=11 backoffLimitPerIndex:int!=12
  maxFailedIndexes:int!=13 podReplacementPolicy=14 managedBy=15 successPolicy:SuccessPolicy=16
JobStatus: conditions:[JobCondition]=1 startTime:Time=2 completionTime:Time=3 active:int=4 succeeded:int=5
  failed:int=6 completedIndexes=7 uncountedTerminatedPods:UncountedTerminatedPods=8 ready:int!=9
  failedIndexes=10 terminating:int!=11
JobTemplateSpec: metadata:ObjectMeta=1 spec:JobSpec=2
MetricIdentifier: name=1 selector:LabelSelector=2
MetricSpec: type=1 object:ObjectMetricSource=2 pods:PodsMetricSource=3 resource:ResourceMetricSource=4
  external:ExternalMetricSource=5 containerResource:ContainerResourceMetricSource=7
MetricStatus: type=1 object:ObjectMetricStatus=2 pods:PodsMetricStatus=3 resource:ResourceMetricStatus=4
  external:ExternalMetricStatus=5 containerResource:ContainerResourceMetricStatus=7
MetricTarget: type=1 value:Quantity=2 averageValue:Quantity=3 averageUtilization:int!=4
MetricValueStatus: value:Quantity=1 averageValue:Quantity=2 averageUtilization:int!=3
ObjectMetricSource: describedObject:CrossVersionObjectReference=1 target:MetricTarget=2
  metric:MetricIdentifier=3
ObjectMetricStatus: metric:MetricIdentifier=1 current:MetricValueStatus=2
  describedObject:CrossVersionObjectReference=3
PodFailurePolicy: rules:[PodFailurePolicyRule]=1
PodFailurePolicyOnExitCodesRequirement: containerName=1 operator=2 values:[int|*]=3
PodFailurePolicyOnPodConditionsPattern: type=1 status=2
PodFailurePolicyRule: action=1 onExitCodes:PodFailurePolicyOnExitCodesRequirement=2
  onPodConditions:[PodFailurePolicyOnPodConditionsPattern]=3
PodsMetricSource: metric:MetricIdentifier=1 target:MetricTarget=2
PodsMetricStatus: metric:MetricIdentifier=1 current:MetricValueStatus=2
ResourceMetricSource: name=1 target:MetricTarget=2
ResourceMetricStatus: name=1 current:MetricValueStatus=2
RollingUpdateDaemonSet: maxUnavailable:IntOrString=1 maxSurge:IntOrString=2
RollingUpdateStatefulSetStrategy: partition:int!=1 maxUnavailable:IntOrString=2
StatefulSet: metadata:ObjectMeta=1 spec:StatefulSetSpec=2 status:StatefulSetStatus=3
StatefulSetCondition: type=1 status=2 lastTransitionTime:Time=3 reason=4 message=5
StatefulSetOrdinals: start:int!=1
StatefulSetPersistentVolumeClaimRetentionPolicy: whenDeleted=1 whenScaled=2
StatefulSetSpec: replicas:int!=1 selector:LabelSelector=2 template:PodTemplateSpec=3
  volumeClaimTemplates:[PersistentVolumeClaim]=4 serviceName:string!=5 podManagementPolicy=6
  updateStrategy:StatefulSetUpdateStrategy=7 revisionHistoryLimit:int!=8 minReadySeconds:int=9
  persistentVolumeClaimRetentionPolicy:StatefulSetPersistentVolumeClaimRetentionPolicy=10
  ordinals:StatefulSetOrdinals=11
StatefulSetStatus: observedGeneration:int=1 replicas:int!=2 readyReplicas:int=3 currentReplicas:int=4
  updatedReplicas:int=5 currentRevision=6 updateRevision=7 collisionCount:int!=9
  conditions:[StatefulSetCondition|type]=10 availableReplicas:int!=11
StatefulSetUpdateStrategy: type=1 rollingUpdate:RollingUpdateStatefulSetStrategy=2
SuccessPolicy: rules:[SuccessPolicyRule]=1
SuccessPolicyRule: succeededIndexes:string!=1 succeededCount:int!=2
UncountedTerminatedPods: succeeded:[string|*]=1 failed:[string|*]=2
"""
