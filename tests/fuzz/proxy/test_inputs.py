"""Hostile input: what others wrote becomes a value of ours or an error of ours, and never anything else."""

import contextlib
from pathlib import Path

import msgspec
import pytest

from kubenet.client.exec_protocol import Credentials, ExecPlugin, NoCredentials, credentials_of
from kubenet.client.kubeconfig import load
from kubenet.errors import InvalidInput, KubenetError
from kubenet.model.objects import EndpointSlice, Service
from proxy.compile_iptables import compile_iptables
from proxy.compile_nft import compile_nft
from proxy.config import Settings, as_file, with_file
from proxy.flavours import held_in
from proxy.policy import Locality, serve
from proxy.ports import NodeNetwork
from proxy.track import track
from tests.fuzz.dns.mutate import inputs
from tests.unit.client.test_kubeconfig import TWO_CONTEXTS
from tests.unit.proxy.test_config import KUBEADM

pytestmark = pytest.mark.fuzz

FULL = as_file(with_file(Settings(), KUBEADM, "seed"))


def test_a_configuration_is_read_or_refused(fuzz_seconds: float) -> None:
    for text in inputs([KUBEADM.encode(), FULL.encode()], fuzz_seconds):
        with contextlib.suppress(InvalidInput):
            settings = with_file(Settings(), text.decode("utf-8", "replace"), "input")
            assert with_file(Settings(), as_file(settings), "again").mode == settings.mode


def test_what_a_credential_program_prints_is_read_or_refused(fuzz_seconds: float) -> None:
    seed = (
        b'{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":'
        b'{"token":"t","expirationTimestamp":"2026-01-02T03:04:05Z","clientCertificateData":"C",'
        b'"clientKeyData":"K"}}'
    )
    for text in inputs([seed], fuzz_seconds):
        with contextlib.suppress(NoCredentials):
            assert isinstance(credentials_of(text, ExecPlugin("who")), Credentials)


def test_a_kubeconfig_is_read_or_refused(fuzz_seconds: float, tmp_path: Path) -> None:
    path = tmp_path / "config"
    seed = TWO_CONTEXTS.replace("user: {token: s3cret}", "user: {exec: {command: a, interactiveMode: Never}}")
    for text in inputs([TWO_CONTEXTS.encode(), seed.encode()], fuzz_seconds):
        path.write_bytes(text)
        with contextlib.suppress(KubenetError):
            load(path)


def test_what_iptables_save_prints_is_counted(fuzz_seconds: float) -> None:
    seed = b"*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n"
    for text in inputs([seed], fuzz_seconds):
        assert held_in(text.decode("utf-8", "replace")).rules >= 0


SERVICE = (
    b'{"metadata":{"name":"web","namespace":"demo","annotations":{"kubenet.dev/balance":"round-robin"}},"spec":'
    b'{"type":"LoadBalancer","clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1"],"externalIPs":["203.0.113.1"],'
    b'"loadBalancerSourceRanges":["10.0.0.0/8"],"sessionAffinity":"ClientIP","ports":[{"name":"http","port":80,'
    b'"nodePort":30080,"protocol":"TCP"}]},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.2"}]}}}'
)
SLICE = (
    b'{"metadata":{"name":"web-1","namespace":"demo","labels":{"kubernetes.io/service-name":"web"},'
    b'"annotations":{"kubenet.dev/weight":"7"}},"addressType":"IPv4","ports":[{"name":"http","port":8080,'
    b'"protocol":"TCP"}],"endpoints":[{"addresses":["10.244.1.2"],"conditions":{"ready":true},"hints":'
    b'{"forZones":[{"name":"a"}]}},{"addresses":["10.244.1.3"],"nodeName":"here"}]}'
)


def test_objects_become_rules_or_are_left_out(fuzz_seconds: float) -> None:
    """Whatever an object says, its rules have text, and that of the good one beside it is the same."""
    good = msgspec.json.decode(
        SERVICE.replace(b"web", b"sane").replace(b"10.96.0.1", b"10.96.0.2"), type=Service
    )
    network = NodeNetwork()
    for text in inputs([SERVICE, SLICE], fuzz_seconds):
        services, slices = [good], []
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            services.append(msgspec.json.decode(text, type=Service))
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            slices.append(msgspec.json.decode(text, type=EndpointSlice))
        serving = serve(track(services, slices).service_ports, Locality("here"))
        compile_nft(serving, network)
        lines = [
            rule.text()
            for table in compile_iptables(serving, network)
            for r in table.chains.values()
            for rule in r
        ]
        assert not any("\n" in line for line in lines)
