"""One round trip for everything that arrives while the last one is under way.

The busier the server, the larger the batches and the cheaper each item; an idle server answers at once. For
reports this is group commit: an item is answered only after the transaction that holds it has committed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from controller.domain.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
Act = Callable[[list[Item]], Awaitable[list[Result]]]
"""Handles a batch wholly or not at all; returns one result per item, in order."""


@dataclass(frozen=True)
class Limits:
    """How much may be in a batch and how much may wait. What an item weighs is the caller's to say."""

    lanes: int
    """Batches under way at the same time."""
    batch_items: int
    batch_weight: int
    waiting_weight: int
    """Beyond it new items are refused: a queue that grows without bound answers nobody in time."""


@dataclass(frozen=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    weight: int
    answer: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Hands items to `act` in batches. For use within one event loop."""

    def __init__(self, act: Act[Item, Result], limits: Limits) -> None:
        """Begin empty; nothing runs until the first item comes."""
        self._act = act
        self._limits = limits
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._waiting_weight = 0
        self._lanes_free = limits.lanes
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, item: Item, weight: int = 1) -> Result:
        """Return the item's result once its batch is done; raises what `act` raised, or Unavailable when full."""
        if self._waiting_weight + weight > self._limits.waiting_weight:
            raise Unavailable("too much is waiting for the database; try again", code="overloaded")
        waiting = _Waiting[Item, Result](item, weight, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._waiting_weight += weight
        if self._lanes_free:
            self._lanes_free -= 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)  # The loop itself keeps no task alive.
            task.add_done_callback(self._tasks.discard)
        return await waiting.answer

    async def _work(self) -> None:
        while self._queue:
            await self._answer(self._next_batch())
        # In the same step that saw the queue empty: whoever comes later must find the lane free.
        self._lanes_free += 1

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        batch = [self._queue.popleft()]
        weight = batch[0].weight
        while self._queue and len(batch) < self._limits.batch_items:
            weight += self._queue[0].weight
            if weight > self._limits.batch_weight:
                break
            batch.append(self._queue.popleft())
        self._waiting_weight -= sum(waiting.weight for waiting in batch)
        return batch

    async def _answer(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._act([waiting.item for waiting in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who wait
            await self._answer_failure(batch, error)
        else:
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(result)

    async def _answer_failure(self, batch: list[_Waiting[Item, Result]], error: Exception) -> None:
        if len(batch) > 1 and not isinstance(error, Unavailable):
            # One item that cannot be handled must not fail its neighbours, now and at every repetition.
            for waiting in batch:
                await self._answer([waiting])
            return
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
