"""Who may do what, and the questions about it: rbac, authentication, authorization. *Pure.*

The notation is that of ``types.py``.

Source: the field numbers of Kubernetes 1.33, generated.proto of rbac/v1, authentication/v1, authorization/v1.
"""

MESSAGES = """
AggregationRule: clusterRoleSelectors:[LabelSelector]=1
BoundObjectReference: kind=1 apiVersion=2 name=3 uid=4
ClusterRole: metadata:ObjectMeta=1 rules:[PolicyRule]=2 aggregationRule:AggregationRule=3
ClusterRoleBinding: metadata:ObjectMeta=1 subjects:[Subject]=2 roleRef:RoleRef=3
FieldSelectorAttributes: rawSelector=1 requirements:[FieldSelectorRequirement]=2
FieldSelectorRequirement: key=1 operator=2 values:[string]=3
LabelSelectorAttributes: rawSelector=1 requirements:[LabelSelectorRequirement]=2
LocalSubjectAccessReview: metadata:ObjectMeta=1 spec:SubjectAccessReviewSpec=2
  status:SubjectAccessReviewStatus=3
NonResourceAttributes: path=1 verb=2
NonResourceRule: verbs:[string]=1 nonResourceURLs:[string]=2
PolicyRule: verbs:[string]=1 apiGroups:[string]=2 resources:[string]=3 resourceNames:[string]=4
  nonResourceURLs:[string]=5
ResourceAttributes: namespace=1 verb=2 group=3 version=4 resource=5 subresource=6 name=7
  fieldSelector:FieldSelectorAttributes=8 labelSelector:LabelSelectorAttributes=9
ResourceRule: verbs:[string]=1 apiGroups:[string]=2 resources:[string]=3 resourceNames:[string]=4
Role: metadata:ObjectMeta=1 rules:[PolicyRule]=2
RoleBinding: metadata:ObjectMeta=1 subjects:[Subject]=2 roleRef:RoleRef=3
RoleRef: apiGroup:string!=1 kind=2 name=3
SelfSubjectAccessReview: metadata:ObjectMeta=1 spec:SelfSubjectAccessReviewSpec=2
  status:SubjectAccessReviewStatus=3
SelfSubjectAccessReviewSpec: resourceAttributes:ResourceAttributes=1
  nonResourceAttributes:NonResourceAttributes=2
SelfSubjectReview: metadata:ObjectMeta=1 status:SelfSubjectReviewStatus=2
SelfSubjectReviewStatus: userInfo:UserInfo=1
SelfSubjectRulesReview: metadata:ObjectMeta=1 spec:SelfSubjectRulesReviewSpec=2
  status:SubjectRulesReviewStatus=3
SelfSubjectRulesReviewSpec: namespace=1
Subject: kind=1 apiGroup=2 name=3 namespace=4
SubjectAccessReview: metadata:ObjectMeta=1 spec:SubjectAccessReviewSpec=2 status:SubjectAccessReviewStatus=3
SubjectAccessReviewSpec: resourceAttributes:ResourceAttributes=1
  nonResourceAttributes:NonResourceAttributes=2 user=3 groups:[string]=4 extra:{Texts}=5 uid=6
SubjectAccessReviewStatus: allowed:bool!=1 reason=2 evaluationError=3 denied:bool=4
SubjectRulesReviewStatus: resourceRules:[ResourceRule]=1 nonResourceRules:[NonResourceRule]=2
  incomplete:bool!=3 evaluationError=4
TokenRequest: metadata:ObjectMeta=1 spec:TokenRequestSpec=2 status:TokenRequestStatus=3
TokenRequestSpec: audiences:[string]=1 boundObjectRef:BoundObjectReference=3 expirationSeconds:int!=4
TokenRequestStatus: token=1 expirationTimestamp:Time=2
TokenReview: metadata:ObjectMeta=1 spec:TokenReviewSpec=2 status:TokenReviewStatus=3
TokenReviewSpec: token=1 audiences:[string]=2
TokenReviewStatus: authenticated:bool=1 user:UserInfo=2 error=3 audiences:[string]=4
UserInfo: username=1 uid=2 groups:[string]=3 extra:{Texts}=4
"""
