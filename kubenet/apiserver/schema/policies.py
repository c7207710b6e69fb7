"""What describes a cluster rather than runs in it: networking, policy, storage, quotas, classes. *Pure.*

The notation is that of ``types.py``.

Source: the field numbers of Kubernetes 1.33, generated.proto of core/v1, networking/v1, policy/v1,
storage/v1, scheduling/v1 and node/v1.
"""

MESSAGES = """
CSIPersistentVolumeSource: driver=1 volumeHandle=2 readOnly:bool=3 fsType=4 volumeAttributes:{string}=5
  controllerPublishSecretRef:SecretReference=6 nodeStageSecretRef:SecretReference=7
  nodePublishSecretRef:SecretReference=8 controllerExpandSecretRef:SecretReference=9
  nodeExpandSecretRef:SecretReference=10
HTTPIngressPath: path=1 backend:IngressBackend=2 pathType=3
HTTPIngressRuleValue: paths:[HTTPIngressPath]=1
IPAddress: metadata:ObjectMeta=1 spec:IPAddressSpec=2
IPAddressSpec: parentRef:ParentReference=1
IPBlock: cidr=1 except:[string]=2
ISCSIPersistentVolumeSource: targetPortal=1 iqn=2 lun:int!=3 iscsiInterface=4 fsType=5 readOnly:bool=6
  portals:[string]=7 chapAuthDiscovery:bool=8 secretRef:SecretReference=10 chapAuthSession:bool=11
  initiatorName=12
Ingress: metadata:ObjectMeta=1 spec:IngressSpec=2 status:IngressStatus=3
IngressBackend: resource:TypedLocalObjectReference=3 service:IngressServiceBackend=4
IngressClass: metadata:ObjectMeta=1 spec:IngressClassSpec=2
IngressClassParametersReference: apiGroup=1 kind=2 name=3 scope=4 namespace=5
IngressClassSpec: controller=1 parameters:IngressClassParametersReference=2
IngressLoadBalancerIngress: ip=1 hostname=2 ports:[IngressPortStatus]=4
IngressLoadBalancerStatus: ingress:[IngressLoadBalancerIngress]=1
IngressPortStatus: port:int!=1 protocol=2 error=3
IngressRule: host=1 :IngressRuleValue=2
IngressRuleValue: http:HTTPIngressRuleValue=1
IngressServiceBackend: name=1 port:ServiceBackendPort=2
IngressSpec: defaultBackend:IngressBackend=1 tls:[IngressTLS]=2 rules:[IngressRule]=3 ingressClassName=4
IngressStatus: loadBalancer:IngressLoadBalancerStatus=1
IngressTLS: hosts:[string]=1 secretName=2
LimitRange: metadata:ObjectMeta=1 spec:LimitRangeSpec=2
LimitRangeItem: type=1 max:{Quantity}=2 min:{Quantity}=3 default:{Quantity}=4 defaultRequest:{Quantity}=5
  maxLimitRequestRatio:{Quantity}=6
LimitRangeSpec: limits:[LimitRangeItem]=1
LocalVolumeSource: path=1 fsType=2
ModifyVolumeStatus: targetVolumeAttributesClassName=1 status=2
NetworkPolicy: metadata:ObjectMeta=1 spec:NetworkPolicySpec=2
NetworkPolicyEgressRule: ports:[NetworkPolicyPort]=1 to:[NetworkPolicyPeer]=2
NetworkPolicyIngressRule: ports:[NetworkPolicyPort]=1 from:[NetworkPolicyPeer]=2
NetworkPolicyPeer: podSelector:LabelSelector=1 namespaceSelector:LabelSelector=2 ipBlock:IPBlock=3
NetworkPolicyPort: protocol=1 port:IntOrString=2 endPort:int!=3
NetworkPolicySpec: podSelector:LabelSelector=1 ingress:[NetworkPolicyIngressRule]=2
  egress:[NetworkPolicyEgressRule]=3 policyTypes:[string]=4
Overhead: podFixed:{Quantity}=1
ParentReference: group=1 resource=2 namespace=3 name=4
PersistentVolume: metadata:ObjectMeta=1 spec:PersistentVolumeSpec=2 status:PersistentVolumeStatus=3
PersistentVolumeClaim: metadata:ObjectMeta=1 spec:PersistentVolumeClaimSpec=2
  status:PersistentVolumeClaimStatus=3
PersistentVolumeClaimCondition: type=1 status=2 lastProbeTime:Time=3 lastTransitionTime:Time=4 reason=5
  message=6
PersistentVolumeClaimStatus: phase=1 accessModes:[string]=2 capacity:{Quantity}=3
  conditions:[PersistentVolumeClaimCondition|type]=4 allocatedResources:{Quantity}=5
  allocatedResourceStatuses:{string}=7 currentVolumeAttributesClassName=8
  modifyVolumeStatus:ModifyVolumeStatus=9
PersistentVolumeSource: hostPath:HostPathVolumeSource=3 nfs:NFSVolumeSource=5
  iscsi:ISCSIPersistentVolumeSource=7 fc:FCVolumeSource=10 local:LocalVolumeSource=20
  csi:CSIPersistentVolumeSource=22
PersistentVolumeSpec: capacity:{Quantity}=1 :PersistentVolumeSource=2 accessModes:[string]=3
  claimRef:ObjectReference=4 persistentVolumeReclaimPolicy=5 storageClassName=6 mountOptions:[string]=7
  volumeMode=8 nodeAffinity:VolumeNodeAffinity=9 volumeAttributesClassName=10
PersistentVolumeStatus: phase=1 message=2 reason=3 lastPhaseTransitionTime:Time=4
PodDisruptionBudget: metadata:ObjectMeta=1 spec:PodDisruptionBudgetSpec=2 status:PodDisruptionBudgetStatus=3
PodDisruptionBudgetSpec: minAvailable:IntOrString=1 selector:LabelSelector=2 maxUnavailable:IntOrString=3
  unhealthyPodEvictionPolicy=4
PodDisruptionBudgetStatus: observedGeneration:int=1 disruptedPods:{Time}=2 disruptionsAllowed:int!=3
  currentHealthy:int!=4 desiredHealthy:int!=5 expectedPods:int!=6 conditions:[Condition|type]=7
PodTemplate: metadata:ObjectMeta=1 template:PodTemplateSpec=2
PriorityClass: metadata:ObjectMeta=1 value:int!=2 globalDefault:bool=3 description=4 preemptionPolicy=5
ReplicationController: metadata:ObjectMeta=1 spec:ReplicationControllerSpec=2
  status:ReplicationControllerStatus=3
ReplicationControllerCondition: type=1 status=2 lastTransitionTime:Time=3 reason=4 message=5
ReplicationControllerSpec: replicas:int!=1 selector:{string|-}=2 template:PodTemplateSpec=3
  minReadySeconds:int=4
ReplicationControllerStatus: replicas:int!=1 fullyLabeledReplicas:int=2 observedGeneration:int=3
  readyReplicas:int=4 availableReplicas:int=5 conditions:[ReplicationControllerCondition|type]=6
ResourceQuota: metadata:ObjectMeta=1 spec:ResourceQuotaSpec=2 status:ResourceQuotaStatus=3
ResourceQuotaSpec: hard:{Quantity}=1 scopes:[string]=2 scopeSelector:ScopeSelector=3
ResourceQuotaStatus: hard:{Quantity}=1 used:{Quantity}=2
RuntimeClass: metadata:ObjectMeta=1 handler=2 overhead:Overhead=3 scheduling:Scheduling=4
Scheduling: nodeSelector:{string|-}=1 tolerations:[Toleration]=2
ScopeSelector: matchExpressions:[ScopedResourceSelectorRequirement]=1
ScopedResourceSelectorRequirement: scopeName=1 operator=2 values:[string]=3
SecretReference: name=1 namespace=2
ServiceBackendPort: name=1 number:int=2
ServiceCIDR: metadata:ObjectMeta=1 spec:ServiceCIDRSpec=2 status:ServiceCIDRStatus=3
ServiceCIDRSpec: cidrs:[string]=1
ServiceCIDRStatus: conditions:[Condition|type]=1
StorageClass: metadata:ObjectMeta=1 provisioner=2 parameters:{string}=3 reclaimPolicy=4
  mountOptions:[string]=5 allowVolumeExpansion:bool!=6 volumeBindingMode=7
  allowedTopologies:[TopologySelectorTerm]=8
TopologySelectorLabelRequirement: key=1 values:[string]=2
TopologySelectorTerm: matchLabelExpressions:[TopologySelectorLabelRequirement]=1
VolumeNodeAffinity: required:NodeSelector=1
"""
