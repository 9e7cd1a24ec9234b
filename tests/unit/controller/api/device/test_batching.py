import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.api.device.batching import Batcher, Limits
from controller.domain.errors import Unavailable

LIMITS = Limits(lanes=1, batch_items=3, batch_weight=100, waiting_weight=1000)


@dataclass
class Trips:
    """Round trips that end when the test says so; an item named `bad` cannot be handled."""

    begun: list[list[str]] = field(default_factory=list)
    gates: list[asyncio.Event] = field(default_factory=list)

    async def __call__(self, items: list[str]) -> list[str]:
        self.begun.append(items)
        self.gates.append(asyncio.Event())
        await self.gates[-1].wait()
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def end_trips(trips: Trips, answers: list[Awaitable[Any]]) -> list[Any]:
    async def keep_opening() -> None:
        while True:
            for gate in trips.gates:
                gate.set()
            await asyncio.sleep(0)

    opener = asyncio.create_task(keep_opening())
    try:
        return await asyncio.gather(*answers, return_exceptions=True)
    finally:
        opener.cancel()


def put(batcher: Batcher[str, str], *items: str, weight: int = 1) -> list[Awaitable[Any]]:
    return [asyncio.ensure_future(batcher.put(item, weight)) for item in items]


def test_what_arrives_during_a_trip_shares_the_next_one() -> None:
    async def test() -> None:
        trips = Trips()
        batcher = Batcher(trips, LIMITS)
        answers = put(batcher, "a")
        await settle()
        answers += put(batcher, "b", "c")
        await settle()
        assert trips.begun == [["a"]]
        assert await end_trips(trips, answers) == ["A", "B", "C"]
        assert trips.begun == [["a"], ["b", "c"]]

    run(test)


def test_nothing_is_answered_before_its_trip_has_ended() -> None:
    async def test() -> None:
        trips = Trips()
        [answer] = put(Batcher(trips, LIMITS), "a")
        await settle()
        assert not answer.done()  # type: ignore[attr-defined]
        trips.gates[0].set()
        assert await answer == "A"

    run(test)


def test_a_batch_holds_no_more_items_than_allowed() -> None:
    async def test() -> None:
        trips = Trips()
        answers = put(Batcher(trips, LIMITS), *"abcde")
        assert await end_trips(trips, answers) == list("ABCDE")
        assert trips.begun == [["a", "b", "c"], ["d", "e"]]

    run(test)


def test_a_batch_weighs_no_more_than_allowed_unless_one_item_alone_does() -> None:
    async def test() -> None:
        trips = Trips()
        batcher = Batcher(trips, LIMITS)
        answers = put(batcher, "a", "b", weight=60) + put(batcher, "heavy", weight=500)
        await end_trips(trips, answers)
        assert trips.begun == [["a"], ["b"], ["heavy"]]

    run(test)


def test_as_many_trips_run_at_once_as_there_are_lanes() -> None:
    async def test() -> None:
        trips = Trips()
        batcher = Batcher(trips, Limits(lanes=2, batch_items=1, batch_weight=100, waiting_weight=1000))
        answers = put(batcher, "a", "b", "c")
        await settle()
        assert trips.begun == [["a"], ["b"]]
        assert await end_trips(trips, answers) == ["A", "B", "C"]

    run(test)


def test_whoever_comes_right_after_the_last_trip_is_not_forgotten() -> None:
    async def test() -> None:
        async def at_once(items: list[str]) -> list[str]:
            return items

        batcher = Batcher(at_once, LIMITS)
        assert [await batcher.put(item) for item in "abc"] == ["a", "b", "c"]

    run(test)


def test_a_full_queue_refuses_and_takes_again_once_it_is_shorter() -> None:
    async def test() -> None:
        trips = Trips()
        batcher = Batcher(trips, LIMITS)
        first = put(batcher, "under way")
        await settle()
        waiting = put(batcher, "waits", weight=1000)
        await settle()
        with pytest.raises(Unavailable, match="too much is waiting"):
            await batcher.put("one too many")
        assert await end_trips(trips, first + waiting) == ["UNDER WAY", "WAITS"]
        assert await end_trips(trips, put(batcher, "again")) == ["AGAIN"]

    run(test)


def test_an_item_that_cannot_be_handled_fails_alone() -> None:
    async def test() -> None:
        trips = Trips()
        good, bad, other = await end_trips(trips, put(Batcher(trips, LIMITS), "good", "bad", "other"))
        assert (good, other) == ("GOOD", "OTHER")
        assert isinstance(bad, ValueError)

    run(test)


def test_a_database_that_is_away_is_not_asked_again_for_each_item() -> None:
    async def test() -> None:
        asked = []

        async def away(items: list[str]) -> list[str]:
            asked.append(items)
            raise Unavailable("away")

        answers = await asyncio.gather(*put(Batcher(away, LIMITS), "a", "b"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
        assert asked == [["a", "b"]]

    run(test)


def test_whoever_gives_up_waiting_does_not_disturb_the_others() -> None:
    async def test() -> None:
        trips = Trips()
        impatient, patient = put(Batcher(trips, LIMITS), "a", "b")
        await settle()
        impatient.cancel()  # type: ignore[attr-defined]
        assert (await end_trips(trips, [patient])) == ["B"]

    run(test)
