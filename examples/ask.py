"""Asking a node from asyncio: its fields, an interval as a DataFrame, and the live feed.

Run it beside a site: python examples/ask.py, or python examples/ask.py SITE
"""

import asyncio
import sys

from sisock import Consumer


async def main(site=None):
    async with Consumer(site) as consumer:
        for node in await consumer.nodes():
            print(node.name, "-", node.description)
        data = await consumer.data("host", ["cpu.total", "load.1m"], start=-600)
        print(data)
        print(data.to_pandas().describe())
        async for batch in consumer.subscribe("host", "cpu"):
            print("now:", batch["cpu.total"])
            break


asyncio.run(main(*sys.argv[1:]))
