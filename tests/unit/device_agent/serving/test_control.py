"""Reading load orders, and the answers to calls that are wrong."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.serving.control import Control, read_load_order
from device_agent.serving.counters import CounterBook
from device_agent.serving.http_messages import Request
from device_agent.serving.slots import Slots


def order(store: Path, **changes: Any) -> bytes:
    fields = {
        "slot": "digits",
        "version": "3",
        "manifest": "a" * 64,
        "directory": str(store / "a"),
        "main": "model.onnx",
    }
    return json.dumps({**fields, **changes}).encode()


def call(store: Path, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    async def scenario() -> tuple[int, dict[str, Any]]:
        counters = CounterBook()
        control = Control(Slots(counters), counters, store=store, address="127.0.0.1:1", stop=lambda: None)
        response = await control.handle(Request(method, path, {}, body))
        return response.status, json.loads(response.body)

    return asyncio.run(scenario())


def test_an_order_names_the_artifact_inside_its_directory(tmp_path: Path) -> None:
    assert read_load_order(order(tmp_path), tmp_path).path == tmp_path / "a" / "model.onnx"


@pytest.mark.parametrize("directory", ["/etc", "..", "/"])
def test_a_directory_outside_the_store_is_refused(tmp_path: Path, directory: str) -> None:
    with pytest.raises(ProtocolError, match=r"load\.directory is .*; expected one in") as caught:
        read_load_order(order(tmp_path, directory=directory), tmp_path)
    assert caught.value.code is Code.MALFORMED


def test_a_link_out_of_the_store_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "a").symlink_to(tmp_path)

    with pytest.raises(ProtocolError, match=r"load\.directory"):
        read_load_order(order(store), store)


@pytest.mark.parametrize(
    "changes", [{"slot": "../x"}, {"main": "../model.onnx"}, {"manifest": "abc"}, {"version": 3}, {"slot": None}]
)
def test_a_malformed_order_is_refused_by_field(tmp_path: Path, changes: dict[str, Any]) -> None:
    status, answer = call(tmp_path, "POST", "/control/load", order(tmp_path, **changes))

    assert (status, answer["code"]) == (400, "E_MALFORMED")
    assert f"load.{next(iter(changes))}" in answer["error"]


def test_a_directory_without_the_model_cannot_be_loaded(tmp_path: Path) -> None:
    status, answer = call(tmp_path, "POST", "/control/load", order(tmp_path))

    assert (status, answer["code"]) == (422, "E_LOAD")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/control/load"), ("GET", "/"), ("POST", "/v2/models/digits/infer")]
)
def test_a_call_that_does_not_exist_is_not_found(tmp_path: Path, method: str, path: str) -> None:
    status, answer = call(tmp_path, method, path)

    assert status == 404
    assert path in answer["error"]


def test_the_status_of_an_idle_process_tells_its_address_and_no_slots(tmp_path: Path) -> None:
    status, answer = call(tmp_path, "GET", "/control/status")

    assert status == 200
    assert answer["address"] == "127.0.0.1:1"
    assert answer["slots"] == {}
    assert answer["pid"] > 0
