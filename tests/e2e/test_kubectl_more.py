"""kubectl around the schema, apply, and the kinds without controllers; with every kubectl there is."""

import json
import urllib.request

from tests.e2e.test_kubectl import MANIFEST, NODE, POD, Kubectl, every_version, kubectl, on_path

assert kubectl  # the fixture

NS = ("-n", "demo")


@every_version
def test_B1_8_explain_shows_the_fields(kubectl: Kubectl) -> None:
    shown = kubectl("explain", "deployment.spec.strategy.rollingUpdate")
    assert "maxSurge" in shown
    assert "maxUnavailable" in shown
    assert "FIELDS:" in kubectl("explain", "networkpolicies.spec.ingress", "--recursive")


@every_version
def test_B1_7_diff_and_dry_run_ask_the_server(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    changed = MANIFEST.replace("web:1", "web:2")
    diff = kubectl.run("diff", "-f", "-", stdin=changed)
    assert (diff.returncode, diff.stderr) == (1, "")  # there is a difference
    assert [line[1:].split() for line in diff.stdout.splitlines() if line.startswith(("-  ", "+  "))] == [
        ["generation:", "1"],
        ["generation:", "2"],
        ["-", "image:", "web:1"],
        ["-", "image:", "web:2"],
    ]
    dry = kubectl("apply", "--dry-run=server", "-f", "-", stdin=changed)
    assert "deployment.apps/web configured (server dry run)" in dry
    assert kubectl.get(*NS, "deployment", "web")["metadata"]["generation"] == 1


@every_version
def test_B1_5_apply_checks_the_fields(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "demo")
    refused = kubectl.run("apply", "-f", "-", stdin=MANIFEST.replace("replicas: 2", "replicaz: 2"))
    assert refused.returncode == 1
    assert "unknown field" in refused.stderr
    assert "replicaz" in refused.stderr


@every_version
def test_B3_8_server_side_apply(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "demo")
    apply = ("apply", "--server-side", "-f", "-")
    objects = ("namespace/demo", "deployment.apps/web", "service/web")
    forced = kubectl(*apply, "--force-conflicts", stdin=MANIFEST)
    assert forced.splitlines() == [f"{name} serverside-applied" for name in objects]
    assert kubectl(*apply, stdin=MANIFEST).splitlines() == forced.splitlines()
    kubectl(*NS, "scale", "deployment", "web", "--replicas=5")
    conflict = kubectl.run(*apply, stdin=MANIFEST)
    assert conflict.returncode == 1
    assert "Apply failed with 1 conflict" in conflict.stderr
    assert ".spec.replicas" in conflict.stderr
    without = MANIFEST.replace("  replicas: 2\n", "")
    kubectl(*apply, stdin=without)
    assert kubectl.get(*NS, "deployment", "web")["spec"]["replicas"] == 5


@every_version
def test_B3_8_from_client_side_to_server_side_apply(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST)
    dropped = MANIFEST.replace(", ports: [{name: http, containerPort: 8080}]", "")
    kubectl("apply", "--server-side", "-f", "-", stdin=dropped)
    container = kubectl.get(*NS, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "web:1"
    if kubectl.minor >= 26:  # older ones leave the fields with the manager of the client-side apply
        assert "ports" not in container


def _create(kubectl: Kubectl, api_version: str, *words: str) -> None:
    """Create what a command makes: as it does it itself, or (an old one, of a beta version) by a manifest."""
    if kubectl.minor >= 25:
        kubectl(*(word for word in words if word not in ("--dry-run=client", "-o", "json")))
    else:
        made = json.loads(kubectl(*words)) | {"apiVersion": api_version}
        kubectl(*NS, "create", "-f", "-", stdin=json.dumps(made))


@on_path
def test_F_the_kinds_of_a_cluster_are_created_by_command(kubectl: Kubectl) -> None:
    """From 1.32 on these are protobuf: the numbers of the fields are put to the test."""
    kubectl("create", "namespace", "demo")
    kubectl(*NS, "create", "job", "once", "--image=web:1", "--", "true")
    often = ("--image=web:1", "--schedule=*/5 * * * *", "--dry-run=client", "-o", "json", "--", "true")
    _create(kubectl, "batch/v1", *NS, "create", "cronjob", "often", *often)
    kubectl(*NS, "create", "role", "reader", "--verb=get,list", "--resource=pods,deployments.apps")
    kubectl(*NS, "create", "rolebinding", "readers", "--role=reader", "--user=ann", "--group=ops")
    kubectl("create", "clusterrole", "health", "--verb=get", "--non-resource-url=/healthz")
    kubectl("create", "clusterrolebinding", "health", "--clusterrole=health", "--serviceaccount=demo:robot")
    kubectl(*NS, "create", "quota", "few", "--hard=pods=5,services=2")
    kubectl("create", "priorityclass", "high", "--value=1000", "--description=first")
    two = ("--selector=app=web", "--min-available=2", "--dry-run=client", "-o", "json")
    _create(kubectl, "policy/v1", *NS, "create", "poddisruptionbudget", "two", *two)
    kubectl(*NS, "create", "ingress", "web", "--class=nginx", "--rule=a.example/b*=web:80,tls=cert")
    kubectl(*NS, "create", "deployment", "web", "--image=web:1")
    kubectl(*NS, "autoscale", "deployment", "web", "--max=5", "--cpu-percent=80")
    assert kubectl.get(*NS, "hpa", "web")["spec"]["maxReplicas"] == 5
    schedule = kubectl.get(*NS, "cronjob", "often")["spec"]
    assert schedule["schedule"] == "*/5 * * * *"
    assert schedule["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"] == ["true"]
    assert kubectl.get(*NS, "role", "reader")["rules"] == [
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments"]},
    ]
    subjects = kubectl.get(*NS, "rolebinding", "readers")["subjects"]
    assert [subject["name"] for subject in subjects] == ["ann", "ops"]
    robot = kubectl.get("clusterrolebinding", "health")["subjects"][0]
    assert (robot["kind"], robot["namespace"]) == ("ServiceAccount", "demo")
    assert kubectl.get(*NS, "quota", "few")["spec"]["hard"] == {"pods": "5", "services": "2"}
    assert kubectl.get("priorityclass", "high")["value"] == 1000
    assert kubectl.get(*NS, "pdb", "two")["spec"]["minAvailable"] == 2
    rule = kubectl.get(*NS, "ingress", "web")["spec"]["rules"][0]
    path = rule["http"]["paths"][0]
    assert (rule["host"], path["path"], path["pathType"]) == ("a.example", "/b", "Prefix")
    assert path["backend"] == {"service": {"name": "web", "port": {"number": 80}}}
    for kind in ("job", "cronjob", "role", "rolebinding", "quota", "pdb", "ingress"):
        if kubectl.minor >= 25 or kind not in ("cronjob", "pdb", "ingress"):  # older ones ask for a beta
            kubectl(*NS, "describe", kind)
        assert len(kubectl.lines(*NS, "get", kind)) == 2


@on_path
def test_B3_19_may_i_and_who_am_i(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert "[*]" in kubectl("auth", "can-i", "--list")
    assert kubectl.run("auth", "can-i", "create", "pods", "--as=ann").returncode == 1
    if kubectl.minor >= 27:
        assert "system:masters" in kubectl("auth", "whoami")


def write_status(kubectl: Kubectl, status: object) -> None:
    """Be the node agent of demo/one."""
    request = urllib.request.Request(
        f"{kubectl.url}/api/v1/namespaces/demo/pods/one/status",
        json.dumps(status).encode(),
        {"Content-Type": "application/merge-patch+json"},
        method="PATCH",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@on_path
def test_G_drain_keeps_a_disruption_budget(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "demo")
    kubectl.create(NODE)
    kubectl.create(POD)
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}}
    write_status(kubectl, ready)
    every = ("--selector=app=web", "--min-available=1", "--dry-run=client", "-o", "json")
    _create(kubectl, "policy/v1", *NS, "create", "poddisruptionbudget", "all", *every)
    drain = ("drain", "n1", "--force", "--ignore-daemonsets", "--grace-period=0")
    kept = kubectl.run(*drain, "--timeout=2s")
    assert kept.returncode == 1
    assert "would violate the pod's disruption budget" in kept.stderr
    kubectl(*NS, "delete", "pdb", "all")
    done = kubectl.run(*drain, "--timeout=20s")
    assert done.returncode == 0, done.stderr
    assert "pod/one evicted" in done.stdout
