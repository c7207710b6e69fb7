"""The worlds that the service proxy is measured in."""
