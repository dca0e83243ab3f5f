"""A server that answers with the very bytes a test gives it, and keeps the requests as they came over the wire."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

DATE = "Mon, 14 Sep 2026 14:02:43 GMT"


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole response. Header names are given with `_` for `-`."""
    lines = {"Content-Length": str(len(body)), "Date": DATE, "Content-Type": "application/json"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


@dataclass(frozen=True)
class Request:
    """One request: its first line, its headers by lower-case name, its body."""

    line: str
    headers: dict[str, str]
    body: bytes
    text: str

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]


Reply = bytes | None | Callable[[str], bytes | None]


class Provider:
    """Answers each request with `reply`: bytes, None for no answer at all, or a function of the request's path.

    `then_close` ends the connection after an answer; `drop_after` does so instead of the answer, to every request of
    a connection after the first so many.
    """

    def __init__(self, reply: Reply = None, *, then_close: bool = False, drop_after: int | None = None) -> None:
        self.reply = reply
        self.then_close = then_close
        self.drop_after = drop_after
        self.received: list[Request] = []
        self.connections = 0
        self.asked = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    @property
    def requests(self) -> list[str]:
        """The heads of the requests, as they came."""
        return [request.text for request in self.received]

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.received]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        served = 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await _request(reader)
                self.received.append(request)
                self.asked.set()
                served += 1
                if self.drop_after is not None and served > self.drop_after:
                    break
                reply = self.reply(request.path) if callable(self.reply) else self.reply
                if reply is None:
                    await reader.read()
                    break
                writer.write(reply)
                await writer.drain()
                if self.then_close:
                    break
        writer.close()
        self._writers.discard(writer)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Provider"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._writers):
                writer.close()
            await server.wait_closed()


async def _request(reader: asyncio.StreamReader) -> Request:
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = text.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (header.partition(": ") for header in rest)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(line, headers, body, text)
