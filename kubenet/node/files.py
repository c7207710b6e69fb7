"""The files and variables that a pod finds. *Pure.*

Source: kubelet's DNS policy ClusterFirst; Kubernetes documentation, "DNS for Services and Pods", "Adding
entries to Pod /etc/hosts", "Environment variables" of Services.
"""

from collections.abc import Iterable
from ipaddress import ip_address

from kubenet.model.links import IPAddress
from kubenet.model.objects import Pod, Service

# With fewer dots than this a name goes through the search path first.
NDOTS = 5


def resolv_conf(namespace: str, cluster_dns: IPAddress, cluster_domain: str) -> str:
    """Return the resolv.conf of a pod with dnsPolicy ClusterFirst."""
    search = (f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain)
    return f"search {' '.join(search)}\nnameserver {cluster_dns}\noptions ndots:{NDOTS}\n"


def hostname(pod: Pod) -> str:
    """Return the pod's host name: what it asks for, or its own name; 63 characters at most."""
    return (pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")


def hosts_file(pod: Pod, addresses: Iterable[str], cluster_domain: str) -> str:
    """Return the hosts file of a pod."""
    own = hostname(pod)
    names = own
    if pod.spec.subdomain:
        names = f"{own}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain} {own}"
    lines = [
        "# Written by the node agent.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
    ]
    lines += [f"{address}\t{names}" for address in addresses]
    return "\n".join(lines) + "\n"


def service_variables(services: Iterable[Service], namespace: str) -> dict[str, str]:
    """Return the variables that tell a pod of the Services of its namespace (and of ``kubernetes``)."""
    variables: dict[str, str] = {}
    for service in sorted(services, key=lambda each: each.metadata.key):
        meta, spec = service.metadata, service.spec
        wanted = meta.namespace == namespace or meta.key == "default/kubernetes"
        if wanted and spec.ports and _is_address(spec.cluster_ip):
            variables |= _variables_of(service)
    return variables


def _variables_of(service: Service) -> dict[str, str]:
    spec, prefix = service.spec, _variable(service.metadata.name)
    first = spec.ports[0]
    host = f"[{spec.cluster_ip}]" if ":" in spec.cluster_ip else spec.cluster_ip
    variables = {
        f"{prefix}_SERVICE_HOST": spec.cluster_ip,
        f"{prefix}_SERVICE_PORT": str(first.port),
        f"{prefix}_PORT": f"{first.protocol.lower()}://{host}:{first.port}",
    }
    for port in spec.ports:
        protocol = port.protocol.lower()
        link = f"{prefix}_PORT_{port.port}_{port.protocol}"
        if port.name:
            variables[f"{prefix}_SERVICE_PORT_{_variable(port.name)}"] = str(port.port)
        variables |= {
            link: f"{protocol}://{host}:{port.port}",
            f"{link}_PROTO": protocol,
            f"{link}_PORT": str(port.port),
            f"{link}_ADDR": spec.cluster_ip,
        }
    return variables


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
