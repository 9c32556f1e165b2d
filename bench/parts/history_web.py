"""The process beside which chunks are measured: a bare uvicorn that answers every request with the same bytes."""

import socket
import sys

import uvicorn

LENGTH = int(sys.argv[1])
BODY = bytes(LENGTH)


async def answer(scope, receive, send):
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(LENGTH).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def main():
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    server = uvicorn.Server(uvicorn.Config(answer, lifespan="off", log_level="error", access_log=False))
    server.run(sockets=[listening])


main()
