"""Metadata, and the kinds of the groups apps, discovery, coordination, autoscaling and policy. *Pure.*

The notation is that of ``types.py``.

Source: the field numbers of Kubernetes 1.33, generated.proto of apimachinery meta/v1, apps/v1, discovery/v1,
coordination/v1, autoscaling/v1 and policy/v1.
"""

MESSAGES = """
Condition: type=1 status=2 observedGeneration:int=3 lastTransitionTime:Time=4 reason=5 message=6
CustomObject: metadata:ObjectMeta=1
CustomResourceColumnDefinition: name=1 type=2 format=3 description=4 priority:int=5 jsonPath=6
CustomResourceConversion: strategy=1 webhook:RawExtension=2
CustomResourceDefinition: metadata:ObjectMeta=1 spec:CustomResourceDefinitionSpec=2
  status:CustomResourceDefinitionStatus=3
CustomResourceDefinitionCondition: type=1 status=2 lastTransitionTime:Time=3 reason=4 message=5
CustomResourceDefinitionNames: plural=1 singular=2 shortNames:[string]=3 kind=4 listKind=5
  categories:[string]=6
CustomResourceDefinitionSpec: group=1 names:CustomResourceDefinitionNames=3 scope=4
  versions:[CustomResourceDefinitionVersion]=7 conversion:CustomResourceConversion=9
  preserveUnknownFields:bool=10
CustomResourceDefinitionStatus: conditions:[CustomResourceDefinitionCondition|type]=1
  acceptedNames:CustomResourceDefinitionNames=2 storedVersions:[string]=3
CustomResourceDefinitionVersion: name=1 served:bool!=2 storage:bool!=3 schema:CustomResourceValidation=4
  subresources:CustomResourceSubresources=5 additionalPrinterColumns:[CustomResourceColumnDefinition]=6
  deprecated:bool=7 deprecationWarning:string!=8 selectableFields:[SelectableField]=9
CustomResourceSubresourceScale: specReplicasPath=1 statusReplicasPath=2 labelSelectorPath:string!=3
CustomResourceSubresources: status:RawExtension=1 scale:CustomResourceSubresourceScale=2
CustomResourceValidation: openAPIV3Schema:RawExtension=1
DeleteOptions: gracePeriodSeconds:int!=1 preconditions:Preconditions=2 orphanDependents:bool!=3
  propagationPolicy=4 dryRun:[string]=5 ignoreStoreReadErrorWithClusterBreakingPotential:bool!=6
Deployment: metadata:ObjectMeta=1 spec:DeploymentSpec=2 status:DeploymentStatus=3
DeploymentCondition: type=1 status=2 reason=4 message=5 lastUpdateTime:Time=6 lastTransitionTime:Time=7
DeploymentSpec: replicas:int!=1 selector:LabelSelector=2 template:PodTemplateSpec=3
  strategy:DeploymentStrategy=4 minReadySeconds:int=5 revisionHistoryLimit:int!=6 paused:bool=7
  progressDeadlineSeconds:int!=9
DeploymentStatus: observedGeneration:int=1 replicas:int=2 updatedReplicas:int=3 availableReplicas:int=4
  unavailableReplicas:int=5 conditions:[DeploymentCondition|type]=6 readyReplicas:int=7
  collisionCount:int!=8 terminatingReplicas:int!=9
DeploymentStrategy: type=1 rollingUpdate:RollingUpdateDeployment=2
Endpoint: addresses:[string]=1 conditions:EndpointConditions=2 hostname=3 targetRef:ObjectReference=4
  deprecatedTopology:{string}=5 nodeName=6 zone=7 hints:EndpointHints=8
EndpointConditions: ready:bool!=1 serving:bool!=2 terminating:bool!=3
EndpointHints: forZones:[ForZone]=1 forNodes:[ForNode]=2
EndpointSlice: metadata:ObjectMeta=1 endpoints:[Endpoint]=2 ports:[discovery.EndpointPort]=3 addressType=4
Eviction: metadata:ObjectMeta=1 deleteOptions:DeleteOptions=2
ForNode: name=1
ForZone: name=1
LabelSelector: matchLabels:{string}=1 matchExpressions:[LabelSelectorRequirement]=2
LabelSelectorRequirement: key=1 operator=2 values:[string]=3
Lease: metadata:ObjectMeta=1 spec:LeaseSpec=2
LeaseSpec: holderIdentity=1 leaseDurationSeconds:int!=2 acquireTime:MicroTime=3 renewTime:MicroTime=4
  leaseTransitions:int!=5 strategy=6 preferredHolder=7
ManagedFieldsEntry: manager=1 operation=2 apiVersion=3 time:Time=4 fieldsType=6 fieldsV1:FieldsV1=7
  subresource=8
ObjectMeta: name=1 generateName=2 namespace=3 selfLink=4 uid=5 resourceVersion=6 generation:int=7
  creationTimestamp:Time=8 deletionTimestamp:Time=9 deletionGracePeriodSeconds:int!=10 labels:{string}=11
  annotations:{string}=12 ownerReferences:[OwnerReference|uid]=13 finalizers:[string|*]=14
  managedFields:[ManagedFieldsEntry]=17
OwnerReference: kind=1 name=3 uid=4 apiVersion=5 controller:bool!=6 blockOwnerDeletion:bool!=7
Preconditions: uid=1 resourceVersion=2
ReplicaSet: metadata:ObjectMeta=1 spec:ReplicaSetSpec=2 status:ReplicaSetStatus=3
ReplicaSetCondition: type=1 status=2 lastTransitionTime:Time=3 reason=4 message=5
ReplicaSetSpec: replicas:int!=1 selector:LabelSelector=2 template:PodTemplateSpec=3 minReadySeconds:int=4
ReplicaSetStatus: replicas:int!=1 fullyLabeledReplicas:int=2 observedGeneration:int=3 readyReplicas:int=4
  availableReplicas:int=5 conditions:[ReplicaSetCondition|type]=6 terminatingReplicas:int!=7
RollingUpdateDeployment: maxUnavailable:IntOrString=1 maxSurge:IntOrString=2
Scale: metadata:ObjectMeta=1 spec:ScaleSpec=2 status:ScaleStatus=3
ScaleSpec: replicas:int=1
ScaleStatus: replicas:int!=1 selector=2
SelectableField: jsonPath=1
events.Event: metadata:ObjectMeta=1 eventTime:MicroTime=2 series:events.EventSeries=3 reportingController=4
  reportingInstance=5 action=6 reason=7 regarding:ObjectReference=8 related:ObjectReference=9 note=10
  type=11 deprecatedSource:EventSource=12 deprecatedFirstTimestamp:Time=13 deprecatedLastTimestamp:Time=14
  deprecatedCount:int=15
events.EventSeries: count:int=1 lastObservedTime:MicroTime=2
discovery.EndpointPort: name:string!=1 protocol=2 port:int!=3 appProtocol=4
"""
