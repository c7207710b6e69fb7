"""The kinds of the core group other than Pod. *Pure.*

The notation is that of ``types.py``.

Source: the field numbers of Kubernetes 1.33, core/v1 (generated.proto).
"""

MESSAGES = """
AttachedVolume: name=1 devicePath=2
Binding: metadata:ObjectMeta=1 target:ObjectReference=2
ClientIPConfig: timeoutSeconds:int!=1
ConfigMap: metadata:ObjectMeta=1 data:{string}=2 binaryData:{bytes}=3 immutable:bool!=4
ConfigMapNodeConfigSource: namespace=1 name=2 uid=3 resourceVersion=4 kubeletConfigKey=5
ContainerImage: names:[string]=1 sizeBytes:int=2
DaemonEndpoint: Port:int!=1
EndpointAddress: ip=1 targetRef:ObjectReference=2 hostname=3 nodeName=4
EndpointPort: name=1 port:int!=2 protocol=3 appProtocol=4
EndpointSubset: addresses:[EndpointAddress]=1 notReadyAddresses:[EndpointAddress]=2 ports:[EndpointPort]=3
Endpoints: metadata:ObjectMeta=1 subsets:[EndpointSubset]=2
Event: metadata:ObjectMeta=1 involvedObject:ObjectReference=2 reason=3 message=4 source:EventSource=5
  firstTimestamp:Time=6 lastTimestamp:Time=7 count:int=8 type=9 eventTime:MicroTime=10 series:EventSeries=11
  action=12 related:ObjectReference=13 reportingComponent=14 reportingInstance=15
EventSeries: count:int=1 lastObservedTime:MicroTime=2
EventSource: component=1 host=2
LoadBalancerIngress: ip=1 hostname=2 ipMode=3 ports:[PortStatus]=4
LoadBalancerStatus: ingress:[LoadBalancerIngress]=1
Namespace: metadata:ObjectMeta=1 spec:NamespaceSpec=2 status:NamespaceStatus=3
NamespaceCondition: type=1 status=2 lastTransitionTime:Time=4 reason=5 message=6
NamespaceSpec: finalizers:[string]=1
NamespaceStatus: phase=1 conditions:[NamespaceCondition|type]=2
Node: metadata:ObjectMeta=1 spec:NodeSpec=2 status:NodeStatus=3
NodeAddress: type=1 address=2
NodeCondition: type=1 status=2 lastHeartbeatTime:Time=3 lastTransitionTime:Time=4 reason=5 message=6
NodeConfigSource: configMap:ConfigMapNodeConfigSource=2
NodeConfigStatus: assigned:NodeConfigSource=1 active:NodeConfigSource=2 lastKnownGood:NodeConfigSource=3
  error=4
NodeDaemonEndpoints: kubeletEndpoint:DaemonEndpoint=1
NodeFeatures: supplementalGroupsPolicy:bool!=1
NodeRuntimeHandler: name=1 features:NodeRuntimeHandlerFeatures=2
NodeRuntimeHandlerFeatures: recursiveReadOnlyMounts:bool!=1 userNamespaces:bool!=2
NodeSpec: podCIDR=1 externalID=2 providerID=3 unschedulable:bool=4 taints:[Taint]=5
  configSource:NodeConfigSource=6 podCIDRs:[string|*]=7
NodeStatus: capacity:{Quantity}=1 allocatable:{Quantity}=2 phase=3 conditions:[NodeCondition|type]=4
  addresses:[NodeAddress|type]=5 daemonEndpoints:NodeDaemonEndpoints=6 nodeInfo:NodeSystemInfo=7
  images:[ContainerImage]=8 volumesInUse:[string]=9 volumesAttached:[AttachedVolume]=10
  config:NodeConfigStatus=11 runtimeHandlers:[NodeRuntimeHandler]=12 features:NodeFeatures=13
NodeSwapStatus: capacity:int!=1
NodeSystemInfo: machineID=1 systemUUID=2 bootID=3 kernelVersion=4 osImage=5 containerRuntimeVersion=6
  kubeletVersion=7 kubeProxyVersion=8 operatingSystem=9 architecture=10 swap:NodeSwapStatus=11
ObjectReference: kind=1 namespace=2 name=3 uid=4 apiVersion=5 resourceVersion=6 fieldPath=7
PodTemplateSpec: metadata:ObjectMeta=1 spec:PodSpec=2
PortStatus: port:int!=1 protocol=2 error=3
Secret: metadata:ObjectMeta=1 data:{bytes}=2 type=3 stringData:{string}=4 immutable:bool!=5
Service: metadata:ObjectMeta=1 spec:ServiceSpec=2 status:ServiceStatus=3
ServiceAccount: metadata:ObjectMeta=1 secrets:[ObjectReference|name]=2
  imagePullSecrets:[LocalObjectReference]=3 automountServiceAccountToken:bool!=4
ServicePort: name=1 protocol=2 port:int!=3 targetPort:IntOrString=4 nodePort:int=5 appProtocol=6
ServiceSpec: ports:[ServicePort|port,protocol]=1 selector:{string|-}=2 clusterIP=3 type=4
  externalIPs:[string]=5 sessionAffinity=7 loadBalancerIP=8 loadBalancerSourceRanges:[string]=9
  externalName=10 externalTrafficPolicy=11 healthCheckNodePort:int=12 publishNotReadyAddresses:bool=13
  sessionAffinityConfig:SessionAffinityConfig=14 ipFamilyPolicy=17 clusterIPs:[string]=18
  ipFamilies:[string]=19 allocateLoadBalancerNodePorts:bool!=20 loadBalancerClass=21
  internalTrafficPolicy=22 trafficDistribution=23
ServiceStatus: loadBalancer:LoadBalancerStatus=1 conditions:[Condition|type]=2
SessionAffinityConfig: clientIP:ClientIPConfig=1
Taint: key=1 value=2 effect=3 timeAdded:Time=4
"""
