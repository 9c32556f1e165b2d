"""A TCP proxy between nodes and router, which can reset, swallow, delay and cut half of its connections."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class Pair:
    """A client's connection, and the one to the router that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter, router: asyncio.StreamWriter) -> None:
        self.client, self.router = client, router
        self.is_half_open = False


class Proxy:
    """Passes on what comes to a port of the loopback interface.

    Parameters
    ----------
    target : int
        The port that everything goes to.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay_s = 0.0
        """Seconds for which everything is held before it is passed on."""
        self._open = asyncio.Event()
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxy")
        self._thread.start()
        self._server = self._do(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Close all connections and the port."""

        async def stop() -> None:
            self._server.close()
            self._abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.05)  # what was aborted is closed at the loop's next turns

        self._do(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self) -> None:
        """Reset all connections, as a machine does that was restarted."""
        self._call(self._abort)

    def swallow(self, swallows: bool) -> None:
        """Pass nothing on, and close nothing, while `swallows`; what was held is passed on afterwards."""
        self._call(self._open.clear if swallows else self._open.set)

    def half_open(self) -> None:
        """Reset the clients' side of all connections; the router sees nothing of it."""

        def cut() -> None:
            for pair in self._pairs:
                pair.is_half_open = True
                _reset(pair.client)

        self._call(cut)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._pairs)

    async def _listen(self) -> asyncio.Server:
        self._open.set()
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _connected(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._open.wait()
            far, router = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(client)
            self._tasks.discard(task)
            return
        pair = Pair(client, router)
        self._pairs.add(pair)
        try:
            upwards = asyncio.create_task(self._pass_on(reader, router))
            downwards = asyncio.create_task(self._pass_on(far, client))
            await asyncio.wait((upwards, downwards), return_when=asyncio.FIRST_COMPLETED)
            if pair.is_half_open:
                for ended in (upwards, downwards):
                    ended.cancel()
                # A stream has one reader at a time.
                await asyncio.wait((upwards, downwards))
                while await far.read(65536):
                    pass  # until the router closes it
        except OSError:
            return  # the router has closed it with a reset
        finally:
            self._pairs.discard(pair)
            self._tasks.discard(task)
            for other in (upwards, downwards):
                other.cancel()
            for writer in (client, router):
                writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on until the end of the stream."""
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._open.wait()
                writer.write(data)
                await writer.drain()

    def _abort(self) -> None:
        for pair in self._pairs:
            _reset(pair.client)
            _reset(pair.router)

    def _call(self, do: Callable[[], object]) -> None:
        async def call() -> None:
            do()

        self._do(call())

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10.0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
