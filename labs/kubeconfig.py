"""A kubeconfig for kubectl. *Pure.*"""

import yaml


def kubeconfig_text(name: str, server: str) -> str:
    """Return a kubeconfig with one cluster, one user and one context, all called after the lab."""
    context = f"kubenet-{name}"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": {"server": server}}],
            "users": [{"name": context, "user": {}}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        },
        sort_keys=False,
    )
