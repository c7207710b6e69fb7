"""Pod templates: telling them apart, and making objects from them. *Pure.*

Source: Kubernetes documentation, "Deployments" (pod-template-hash label); client-go util/rand (safe
alphabet).
"""

import hashlib

import msgspec

from kubenet.model.objects import Json, KubeObject, LabelSelector, PodTemplate
from kubenet.model.resources import Resource

HASH_LABEL = "pod-template-hash"
HASH_LENGTH = 10
# Without vowels and look-alikes: a hash never spells a word.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_json(template: PodTemplate, **more_labels: str) -> Json:
    """Return a template as it is written, with labels added."""
    metadata: Json = msgspec.to_builtins(template.metadata)
    labels: Json = {**template.metadata.labels, **more_labels}
    if labels:
        metadata["labels"] = labels
    spec: Json = msgspec.json.decode(bytes(template.spec), type=dict)
    return {"metadata": metadata, "spec": spec}


def template_key(template: PodTemplate) -> bytes:
    """Return bytes that are equal for equal templates, whatever their key order and their hash label."""
    labels = {key: value for key, value in template.metadata.labels.items() if key != HASH_LABEL}
    spec = msgspec.json.decode(bytes(template.spec))
    return msgspec.json.encode([labels, template.metadata.annotations, spec], order="deterministic")


def template_hash(template: PodTemplate) -> str:
    """Return a short name for a template: equal templates have equal hashes, others (nearly) never."""
    number = int.from_bytes(hashlib.sha256(template_key(template)).digest()[:8])
    digits = []
    for _ in range(HASH_LENGTH):  # 27^10 names: a Deployment keeps a dozen revisions
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(digits)


def selector_json(selector: LabelSelector, **more_labels: str) -> Json:
    """Return a selector as it is written, with required labels added."""
    written: Json = msgspec.to_builtins(selector)
    labels: Json = {**selector.match_labels, **more_labels}
    return written | ({"matchLabels": labels} if labels else {})


def owned_by(resource: Resource, owner: KubeObject) -> list[Json]:
    """Return the owner references of an object that ``owner`` controls."""
    return [
        {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "name": owner.metadata.name,
            "uid": owner.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


# A generated name adds 5 characters; what is longer the API cuts, and two owners would share a prefix.
NAME_PREFIX_MOST = 58


def named_pod(resource: Resource, owner: KubeObject, template: PodTemplate, **more_labels: str) -> Json:
    """Return the body of a pod that ``owner`` makes from ``template``; the server makes up its name."""
    body = template_json(template, **more_labels)
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    metadata |= {
        "generateName": owner.metadata.name[:NAME_PREFIX_MOST].rstrip("-.") + "-",
        "namespace": owner.metadata.namespace,
        "ownerReferences": [*owned_by(resource, owner)],
    }
    return {"apiVersion": "v1", "kind": "Pod", **body}
