"""kill -9 under load: nothing acknowledged is lost (a few rounds here, many in the soak suite)."""

import asyncio
import random
import socket
from pathlib import Path

import pytest

from tests.netns.apiserver.killed import Promised, one_round

pytestmark = pytest.mark.netns


def test_E7_a_killed_server_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    promised, chance = Promised(), random.Random(7)
    for _ in range(3):
        asyncio.run(one_round(tmp_path, listen, promised, chance))
    assert promised.count > 50
