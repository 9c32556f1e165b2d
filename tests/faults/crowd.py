"""Many clients in one process: they subscribe and stop reading, or they ask for much at once.

``python -m tests.faults.crowd SITE URL NUMBER MODE NODE``: prints a line when it has begun.
"""

import contextlib
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from sisock.consumer import BlockingConsumer
from sisock.errors import SisockError
from sisock.site import load_site


def main(site: str, url: str, number: int, mode: str, node: str) -> None:
    access = replace(load_site(Path(site)).access("consumer"), url=url)
    if mode == "subscribe":
        with contextlib.ExitStack() as stack:
            for _ in range(number):
                consumer = stack.enter_context(BlockingConsumer(access))
                next(iter(consumer.subscribe(node, "numbers", buffer=1)))
            print("begun", flush=True)
            time.sleep(600.0)
        return

    def ask() -> None:
        with contextlib.suppress(SisockError), BlockingConsumer(access, cache_bytes=0) as consumer:
            while True:
                with contextlib.suppress(SisockError):
                    consumer.data(node, ["number", "text"], 1.0, 1e11)
                with contextlib.suppress(SisockError):
                    consumer.data(node, [f"field {i}" for i in range(10_000)], 1.0, 1e11, max_points=10**9, exact=True)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    print("begun", flush=True)
    time.sleep(600.0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
