"""kill -9 under load, as many rounds as asked."""

import asyncio
import random
import socket
from pathlib import Path

import pytest

from tests.netns.apiserver.killed import Promised, one_round

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]


def test_E7_a_killed_server_keeps_what_it_acknowledged(tmp_path: Path, soak_rounds: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    promised, chance = Promised(), random.Random(0)
    for _ in range(soak_rounds):
        asyncio.run(one_round(tmp_path, listen, promised, chance))
    assert promised.count > soak_rounds
