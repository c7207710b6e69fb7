"""An API server's answers without the server: what the proxy's watches are given to read.

Objects are made as they are asked for, in the shape and with about the size that a real server sends, so that
the input is not among what the measured process holds.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from ipaddress import IPv4Address

from bench.proxying.addresses import pod, vip
from kubenet.client.transport import ApiClient


def service_json(number: int) -> str:
    """Return a Service."""
    ip, name = vip(number), f"svc-{number}"
    return (
        f'{{"metadata":{{"name":"{name}","namespace":"ns{number % 50}",'
        f'"uid":"6f1c0b4e-8d0e-4d0e-9f55-{number:012d}","resourceVersion":"{number + 1}",'
        f'"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app.kubernetes.io/name":"{name}",'
        '"app.kubernetes.io/managed-by":"Helm"},"managedFields":[{"manager":"helm","operation":"Update",'
        '"apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":'
        '{"f:internalTrafficPolicy":{},"f:ports":{},"f:selector":{},"f:type":{}}}}]},"spec":{"ports":'
        '[{"name":"http","protocol":"TCP","port":80,"targetPort":8080}],'
        f'"selector":{{"app.kubernetes.io/name":"{name}"}},"clusterIP":"{ip}","clusterIPs":["{ip}"],'
        '"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack",'
        '"internalTrafficPolicy":"Cluster"},"status":{"loadBalancer":{}}}'
    )


def slice_json(number: int, second: IPv4Address | None = None, version: int = 0) -> str:
    """Return the EndpointSlice of a Service: two endpoints, the ``second`` of which may be another."""
    name, node = f"svc-{number}", f"node-{number % 100}"
    endpoints = ",".join(
        f'{{"addresses":["{ip}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},'
        f'"targetRef":{{"kind":"Pod","namespace":"ns{number % 50}","name":"{name}-7f9c6d5b8-{at}",'
        f'"uid":"1f1c0b4e-8d0e-4d0e-9f5{at}-{number:012d}"}},"nodeName":"{node}","zone":"z1"}}'
        for at, ip in enumerate((pod(2 * number), second or pod(2 * number + 1)))
    )
    return (
        f'{{"metadata":{{"name":"{name}-x7k2p","generateName":"{name}-","namespace":"ns{number % 50}",'
        f'"uid":"7f1c0b4e-8d0e-4d0e-9f55-{number:012d}","resourceVersion":"{version or number + 1}",'
        '"generation":3,"creationTimestamp":"2026-01-01T00:00:00Z","labels":{'
        f'"app.kubernetes.io/name":"{name}","endpointslice.kubernetes.io/managed-by":'
        f'"endpointslice-controller.k8s.io","kubernetes.io/service-name":"{name}"}},"annotations":'
        '{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-01T00:00:00Z"},"ownerReferences":'
        f'[{{"apiVersion":"v1","kind":"Service","name":"{name}","uid":"6f1c0b4e-8d0e-4d0e-9f55-{number:012d}",'
        '"controller":true,"blockOwnerDeletion":true}]},"addressType":"IPv4",'
        f'"endpoints":[{endpoints}],"ports":[{{"name":"http","protocol":"TCP","port":8080}}]}}'
    )


class Feed(ApiClient):
    """Lists of ``count`` Services and their slices, page by page, and a watch that brings what is sent."""

    def __init__(self, count: int) -> None:  # nothing of a client but its two questions
        self._count = count
        self._version = 10 * count + 10
        self._slices: asyncio.Queue[bytes] = asyncio.Queue()
        self.making_s = 0.0  # processor time that went into making lists

    async def request(
        self,
        method: str,  # noqa: ARG002
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,  # noqa: ARG002
        content_type: str = "",  # noqa: ARG002
    ) -> bytes:
        began_s = time.process_time()
        asked = params or {}
        first, limit = int(asked.get("continue", "0")), int(asked.get("limit", "0")) or self._count
        make = {"services": service_json, "endpointslices": slice_json}.get(path.rpartition("/")[2])
        last = min(first + limit, self._count) if make else first
        more = str(last) if make and last < self._count else ""
        items = ",".join(make(number) for number in range(first, last)) if make else ""
        reply = f'{{"metadata":{{"resourceVersion":"1","continue":"{more}"}},"items":[{items}]}}'.encode()
        self.making_s += time.process_time() - began_s
        return reply

    async def stream(
        self,
        path: str,
        params: Mapping[str, str] | None = None,  # noqa: ARG002
        *,
        idle_s: float | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[bytes, None]:
        while path.endswith("/endpointslices"):
            yield await self._slices.get()
        await asyncio.Event().wait()
        yield b""

    def change(self, number: int, second: IPv4Address) -> bytes:
        """Return the event that a Service's second endpoint is another now."""
        self._version += 1
        piece = slice_json(number, second, self._version)
        return f'{{"type":"MODIFIED","object":{piece}}}'.encode()

    def send(self, line: bytes) -> None:
        """Let the watch bring ``line``."""
        self._slices.put_nowait(line)
