"""The volumes of a Pod. *Pure.*

The notation is that of ``types.py``.

Source: the field numbers of Kubernetes 1.33, core/v1 (generated.proto).
"""

MESSAGES = """
AWSElasticBlockStoreVolumeSource: volumeID=1 fsType=2 partition:int=3 readOnly:bool=4
AzureDiskVolumeSource: diskName=1 diskURI=2 cachingMode=3 fsType=4 readOnly:bool!=5 kind=6
AzureFileVolumeSource: secretName=1 shareName=2 readOnly:bool=3
CSIVolumeSource: driver=1 readOnly:bool=2 fsType=3 volumeAttributes:{string}=4
  nodePublishSecretRef:LocalObjectReference=5
CephFSVolumeSource: monitors:[string]=1 path=2 user=3 secretFile=4 secretRef:LocalObjectReference=5
  readOnly:bool=6
CinderVolumeSource: volumeID=1 fsType=2 readOnly:bool=3 secretRef:LocalObjectReference=4
ClusterTrustBundleProjection: name=1 signerName=2 labelSelector:LabelSelector=3 path=4 optional:bool!=5
ConfigMapProjection: :LocalObjectReference=1 items:[KeyToPath]=2 optional:bool!=4
ConfigMapVolumeSource: :LocalObjectReference=1 items:[KeyToPath]=2 defaultMode:int!=3 optional:bool!=4
DownwardAPIProjection: items:[DownwardAPIVolumeFile]=1
DownwardAPIVolumeFile: path=1 fieldRef:ObjectFieldSelector=2 resourceFieldRef:ResourceFieldSelector=3
  mode:int!=4
DownwardAPIVolumeSource: items:[DownwardAPIVolumeFile]=1 defaultMode:int!=2
EmptyDirVolumeSource: medium=1 sizeLimit:Quantity=2
EphemeralVolumeSource: volumeClaimTemplate:PersistentVolumeClaimTemplate=1
FCVolumeSource: targetWWNs:[string]=1 lun:int!=2 fsType=3 readOnly:bool=4 wwids:[string]=5
FlexVolumeSource: driver=1 fsType=2 secretRef:LocalObjectReference=3 readOnly:bool=4 options:{string}=5
FlockerVolumeSource: datasetName=1 datasetUUID=2
GCEPersistentDiskVolumeSource: pdName=1 fsType=2 partition:int=3 readOnly:bool=4
GitRepoVolumeSource: repository=1 revision=2 directory=3
GlusterfsVolumeSource: endpoints=1 path=2 readOnly:bool=3
HostPathVolumeSource: path=1 type=2
ISCSIVolumeSource: targetPortal=1 iqn=2 lun:int!=3 iscsiInterface=4 fsType=5 readOnly:bool=6
  portals:[string]=7 chapAuthDiscovery:bool=8 secretRef:LocalObjectReference=10 chapAuthSession:bool=11
  initiatorName=12
ImageVolumeSource: reference=1 pullPolicy=2
KeyToPath: key=1 path=2 mode:int!=3
NFSVolumeSource: server=1 path=2 readOnly:bool=3
PersistentVolumeClaimSpec: accessModes:[string]=1 resources:VolumeResourceRequirements=2 volumeName=3
  selector:LabelSelector=4 storageClassName:string!=5 volumeMode=6 dataSource:TypedLocalObjectReference=7
  dataSourceRef:TypedObjectReference=8 volumeAttributesClassName=9
PersistentVolumeClaimTemplate: metadata:ObjectMeta=1 spec:PersistentVolumeClaimSpec=2
PersistentVolumeClaimVolumeSource: claimName=1 readOnly:bool=2
PhotonPersistentDiskVolumeSource: pdID=1 fsType=2
PortworxVolumeSource: volumeID=1 fsType=2 readOnly:bool=3
ProjectedVolumeSource: sources:[VolumeProjection]=1 defaultMode:int!=2
QuobyteVolumeSource: registry=1 volume=2 readOnly:bool=3 user=4 group=5 tenant=6
RBDVolumeSource: monitors:[string]=1 image=2 fsType=3 pool=4 user=5 keyring=6
  secretRef:LocalObjectReference=7 readOnly:bool=8
ScaleIOVolumeSource: gateway=1 system=2 secretRef:LocalObjectReference=3 sslEnabled:bool=4
  protectionDomain=5 storagePool=6 storageMode=7 volumeName=8 fsType=9 readOnly:bool=10
SecretProjection: :LocalObjectReference=1 items:[KeyToPath]=2 optional:bool!=4
SecretVolumeSource: secretName=1 items:[KeyToPath]=2 defaultMode:int!=3 optional:bool!=4
ServiceAccountTokenProjection: audience=1 expirationSeconds:int!=2 path=3
StorageOSVolumeSource: volumeName=1 volumeNamespace=2 fsType=3 readOnly:bool=4
  secretRef:LocalObjectReference=5
TypedLocalObjectReference: apiGroup=1 kind=2 name=3
TypedObjectReference: apiGroup=1 kind=2 name=3 namespace=4
Volume: name=1 :VolumeSource=2
VolumeProjection: secret:SecretProjection=1 downwardAPI:DownwardAPIProjection=2
  configMap:ConfigMapProjection=3 serviceAccountToken:ServiceAccountTokenProjection=4
  clusterTrustBundle:ClusterTrustBundleProjection=5
VolumeResourceRequirements: limits:{Quantity}=1 requests:{Quantity}=2
VolumeSource: hostPath:HostPathVolumeSource=1 emptyDir:EmptyDirVolumeSource=2
  gcePersistentDisk:GCEPersistentDiskVolumeSource=3 awsElasticBlockStore:AWSElasticBlockStoreVolumeSource=4
  gitRepo:GitRepoVolumeSource=5 secret:SecretVolumeSource=6 nfs:NFSVolumeSource=7 iscsi:ISCSIVolumeSource=8
  glusterfs:GlusterfsVolumeSource=9 persistentVolumeClaim:PersistentVolumeClaimVolumeSource=10
  rbd:RBDVolumeSource=11 flexVolume:FlexVolumeSource=12 cinder:CinderVolumeSource=13
  cephfs:CephFSVolumeSource=14 flocker:FlockerVolumeSource=15 downwardAPI:DownwardAPIVolumeSource=16
  fc:FCVolumeSource=17 azureFile:AzureFileVolumeSource=18 configMap:ConfigMapVolumeSource=19
  vsphereVolume:VsphereVirtualDiskVolumeSource=20 quobyte:QuobyteVolumeSource=21
  azureDisk:AzureDiskVolumeSource=22 photonPersistentDisk:PhotonPersistentDiskVolumeSource=23
  portworxVolume:PortworxVolumeSource=24 scaleIO:ScaleIOVolumeSource=25 projected:ProjectedVolumeSource=26
  storageos:StorageOSVolumeSource=27 csi:CSIVolumeSource=28 ephemeral:EphemeralVolumeSource=29
  image:ImageVolumeSource=30
VsphereVirtualDiskVolumeSource: volumePath=1 fsType=2 storagePolicyName=3 storagePolicyID=4
"""
