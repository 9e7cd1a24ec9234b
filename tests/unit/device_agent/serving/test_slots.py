"""Replacing a model while requests hold it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.serving.counters import CounterBook
from device_agent.serving.errors import LoadError, RequestRefused
from device_agent.serving.slots import LoadOrder, Occupant, Slots
from tests.support.onnx_models import golden_rows, linear_model


def order_for(directory: Path, version: int) -> LoadOrder:
    path = directory / f"{version}.onnx"
    linear_model(path, bias=float(version))
    return LoadOrder("digits", str(version), f"{version:064x}", path)


async def until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not predicate():  # noqa: ASYNC110 - a switch tells nobody
            await asyncio.sleep(0.001)


def answers(occupant: Occupant) -> bool:
    return len(occupant.model.run(["scores"], {"x": golden_rows(1)})) == 1


def test_what_is_loaded_is_found_by_its_slot_and_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        slots = Slots(CounterBook())
        await slots.load(order_for(tmp_path, 1))

        assert slots.find("digits").order.version == "1"
        assert slots.find("digits", "1").order.version == "1"
        assert [occupant.order.slot for occupant in slots] == ["digits"]

    asyncio.run(scenario())


def test_what_is_not_served_is_refused_with_what_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        slots = Slots(CounterBook())
        await slots.load(order_for(tmp_path, 1))

        with pytest.raises(RequestRefused, match=r"model 'faces' is not served here; served: \['digits'\]") as unknown:
            slots.find("faces")
        with pytest.raises(RequestRefused, match="version '2' of model 'digits' is not served here; served: '1'"):
            slots.find("digits", "2")
        assert unknown.value.status == 404

    asyncio.run(scenario())


def test_a_switch_serves_the_new_model_at_once_and_frees_the_old_one_after_its_last_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        slots = Slots(CounterBook())
        await slots.load(order_for(tmp_path, 1))
        with slots.find("digits") as old:
            switch = asyncio.create_task(slots.load(order_for(tmp_path, 2)))
            await until(lambda: slots.find("digits").order.version == "2")

            assert answers(slots.find("digits"))
            assert answers(old)
            assert not old.counters.retired
            assert not switch.done()
        await switch

        assert old.counters.retired

    asyncio.run(scenario())


def test_a_request_that_outlasts_the_drain_keeps_its_model_and_delays_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        slots = Slots(CounterBook(), drain_s=0.01)
        await slots.load(order_for(tmp_path, 1))
        with slots.find("digits") as old:
            await slots.load(order_for(tmp_path, 2))

            assert answers(old)
            assert slots.find("digits").order.version == "2"
            assert not old.counters.retired
        assert old.counters.retired

    asyncio.run(scenario())


def test_a_model_that_cannot_be_loaded_leaves_the_slot_as_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        slots = Slots(CounterBook())
        await slots.load(order_for(tmp_path, 1))
        broken = order_for(tmp_path, 2)
        broken.path.write_bytes(b"not a model")

        with pytest.raises(LoadError):
            await slots.load(broken)

        assert slots.find("digits").order.version == "1"
        assert answers(slots.find("digits"))

    asyncio.run(scenario())


def test_loading_what_is_served_already_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        slots = Slots(CounterBook())
        order = order_for(tmp_path, 1)
        await slots.load(order)
        before = slots.find("digits")

        await slots.load(order)

        assert slots.find("digits") is before

    asyncio.run(scenario())


def test_loads_that_arrive_together_are_done_one_after_the_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        slots = Slots(CounterBook())
        await asyncio.gather(*(slots.load(order_for(tmp_path, version)) for version in range(1, 5)))

        assert slots.find("digits").order.version == "4"
        assert len(list(slots)) == 1

    asyncio.run(scenario())


def test_an_unloaded_slot_is_served_no_more_and_unloading_it_again_is_fine(tmp_path: Path) -> None:
    async def scenario() -> None:
        slots = Slots(CounterBook())
        await slots.load(order_for(tmp_path, 1))
        await slots.unload("digits")
        await slots.unload("digits")

        with pytest.raises(RequestRefused):
            slots.find("digits")

    asyncio.run(scenario())
