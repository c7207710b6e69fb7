"""Hostile Corefiles: a configuration, or an error that says what is wrong; never anything else, or a hang."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from dns.corefile import read_corefile
from dns.plugins.registry import read_blocks
from kubenet.errors import InvalidInput
from tests.fuzz.dns.mutate import inputs

pytestmark = pytest.mark.fuzz

KUBEADM = (Path(__file__).parents[2] / "golden" / "kubeadm.Corefile").read_bytes()
SEEDS = [
    KUBEADM,
    b"""(snippet) {
    errors
    cache 30
}
.:53 {
    import snippet
    import a
    forward . 192.0.2.1 {
        policy random
    }
}
""",
    b"""10.0.0.0/8 a.org:5353 b.org {
    hosts {
        192.0.2.1 a.org b.org
        fallthrough
    }
    acl {
        block net 10.0.0.0/8
    }
}
""",
    b""".:{$PORT} {
    template IN AAAA example.org {
        match "^a\\.example\\.org\\.$"
        rcode NXDOMAIN
    }
}
""",
]


def test_C_a_corefile_is_read_or_refused_with_its_place(fuzz_seconds: float) -> None:
    def read_files(pattern: str, importer: str) -> Sequence[tuple[str, str]]:
        return [(pattern, "errors\n")] if pattern == "a" else [(pattern, f"import {pattern}\n")]

    for octets in inputs(SEEDS, fuzz_seconds):
        text = octets[:5000].decode("utf-8", "replace")
        try:
            read_blocks(read_corefile(text, "Corefile", env={"PORT": "53"}, read_files=read_files), 53)
        except InvalidInput:
            continue
        except Exception as error:
            raise AssertionError(repr(text)) from error
