"""Poll web pages from one event loop: each once a window, by one of all processes.

python asyncio_poller.py STORE-URL FILE-OF-ADDRESSES
"""

import asyncio
import signal
import sys
from pathlib import Path

import httpx

import hashring


async def main(store: str, addresses: list[str]) -> None:
    keys = hashring.Keys(addresses)
    async with (
        httpx.AsyncClient(timeout=5) as client,
        await hashring.ajoin(store, "pollers", wait=30) as partition,
    ):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, partition.stop)

        async def poll(address: str) -> tuple[str, str]:
            try:
                return address, str((await client.get(address)).status_code)
            except httpx.HTTPError as error:
                return address, type(error).__name__

        async for cycle in partition.cycles(interval=2):
            # Each address has its own moment in the first 80 % of the window, whoever polls it.
            async for address, status in cycle.map(poll, keys, spread=0.8, ordered=False):
                print(address, cycle.window, status, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_text("utf-8").split()))
