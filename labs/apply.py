"""Bring the objects of a manifest file into a cluster.

An object that is not there is created; one that is there gets the manifest as a merge patch, so that what
others wrote into it (status, an allocated address) stays.
"""

from collections.abc import Iterable, Iterator

import msgspec

from kubenet.client.errors import ObjectNotFound
from kubenet.client.manifest import Manifest
from kubenet.client.sync import SyncClient
from kubenet.model.objects import KubeObject


def apply_manifests(client: SyncClient, manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, str]]:
    """Apply one object after the other; yields each with ``created``, ``configured`` or ``unchanged``."""
    for manifest in manifests:
        yield manifest, _apply(client, manifest)


def _apply(client: SyncClient, manifest: Manifest) -> str:
    try:
        before = client.get(manifest.resource, manifest.namespace, manifest.name, KubeObject)
    except ObjectNotFound:
        client.create(manifest.resource, manifest.namespace, manifest.body)
        return "created"
    stored = client.merge(manifest.resource, manifest.namespace, manifest.name, manifest.body)
    after = msgspec.json.decode(stored, type=KubeObject)
    same = before.metadata.resource_version == after.metadata.resource_version
    return "unchanged" if same else "configured"
