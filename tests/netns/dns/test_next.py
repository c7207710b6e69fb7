"""Several ``forward`` in one block: what one cannot tell, the next is asked."""

from pathlib import Path

import pytest

from dns.wire import Rcode
from tests.netns.dns.test_daemon import serving
from tests.netns.dns.test_upstream import THERE, answered
from tests.netns.dns.world import SERVER, Upstream, World, ask, on

pytestmark = pytest.mark.netns


@pytest.mark.parametrize(
    ("first", "option", "want", "queries"),
    [
        pytest.param(Rcode.NXDOMAIN, "next NXDOMAIN", ["192.0.2.2"], 2, id="a code that is left to the next"),
        pytest.param(Rcode.NXDOMAIN, "next_on_nodata", [], 1, id="another code is the answer"),
        pytest.param(Rcode.NOERROR, "next NXDOMAIN", ["192.0.2.1"], 1, id="an answer is the answer"),
    ],
)
def test_P6_the_next_forward_is_asked_for_what_one_leaves_to_it(
    world: World, tmp_path: Path, first: Rcode, option: str, want: list[str], queries: int
) -> None:
    server = f"{THERE[0]}:{THERE[1]}"
    text = f". {{\n bind {SERVER}\n cache\n forward . {server} {{\n {option}\n }}\n forward . {server}\n}}"
    asked: list[bytes] = []

    def one_then_the_other(message: bytes, _tcp: bool) -> list[bytes]:
        asked.append(message)
        return [answered(message, flags=first) if len(asked) == 1 else answered(message, last=2)]

    async def case() -> None:
        with Upstream(world, one_then_the_other):
            async with serving(world, tmp_path / "Corefile", text):
                for _ in range(2 if want else 1):  # the second time from the cache
                    assert (await ask(world, "www.example.com")).rdata == want

    on(case)
    assert len(asked) == queries
