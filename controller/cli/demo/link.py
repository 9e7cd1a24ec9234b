"""A link to somewhere far away: a TCP proxy on loopback that delays every byte by half a round trip."""

import asyncio
import threading
from types import TracebackType
from typing import Self

READ_BYTES = 65_536


class DelayedLink:
    """Forwards connections to a port of this machine with an added round trip. Use it as a context manager."""

    def __init__(self, port: int, round_trip_s: float) -> None:
        """Lead to `port` on 127.0.0.1."""
        self._target = port
        self._delay_s = round_trip_s / 2
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        """Begin to listen; `url` says where."""
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut every connection."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> str:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _cut(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far_in, far_out = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(self._carry(near_in, far_out), self._carry(far_in, near_out))
        except (OSError, asyncio.CancelledError):
            pass  # one side hung up, or the link is cut: so does the other
        finally:
            near_out.close()
            far_out.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        # Delays are equal, so that what is read first is also written first.
        while data := await source.read(READ_BYTES):
            self._loop.call_later(self._delay_s, sink.write, data)
        await asyncio.sleep(self._delay_s)
        sink.close()
