"""Asking a node from asyncio: its fields, an interval as a DataFrame, and the live feed.

Run it beside a site: python examples/ask.py site.yaml
"""

import asyncio
import sys

from sisock import Consumer
from sisock.site import load_site


async def main(site):
    async with Consumer(load_site(site).access()) as consumer:
        for node in await consumer.nodes():
            print(node.name, "-", node.description)
        data = await consumer.data("host", ["cpu.total", "load.1m"], start=-600)
        print(data)
        print(data.to_pandas().describe())
        async for batch in consumer.subscribe("host", "cpu"):
            print("now:", batch["cpu.total"])
            break


asyncio.run(main(sys.argv[1]))
