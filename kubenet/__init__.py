"""kubenet: the Kubernetes pod network, end to end."""

__version__ = "0.1.0.dev0"
