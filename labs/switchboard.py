"""The socket on which a lab's keeper takes orders: one JSON object a line, one answer a line.

Only root reaches it: the lab's directory is closed to others.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from kubenet.errors import KubenetError
from labs.daemons import Daemons
from labs.report import Answer, Order


@asynccontextmanager
async def switchboard(path: Path, daemons: Daemons) -> AsyncIterator[None]:
    """Take orders at ``path`` while the block runs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await answer(line, daemons)) + b"\n")
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def answer(line: bytes, daemons: Daemons) -> Answer:
    """Carry out one order and return what to say."""
    try:
        order = msgspec.json.decode(line, type=Order)
        return Answer(daemons=await _carry_out(order, daemons))
    except msgspec.DecodeError as error:
        return Answer(error=f"not an order: {error}", exit_code=2)
    except KubenetError as error:
        return Answer(error=error.message, next_step=error.next_step, exit_code=error.exit_code)


async def _carry_out(order: Order, daemons: Daemons) -> Mapping[str, str]:
    match order.verb:
        case "start":
            await daemons.start(order.daemon)
        case "stop":
            await daemons.stop(order.daemon)
        case "list":
            pass
    return dict(daemons.states())
