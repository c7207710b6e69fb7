"""Run programs inside the namespaces of a lab."""
