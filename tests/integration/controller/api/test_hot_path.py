"""What the poll path asks of the database, and when it trusts its memory. Changes are followed when a test says so."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import event

from controller.api.device.hot_path import DEAF_AFTER_S, HotPath
from controller.api.device.poll_cache import etag_of
from controller.api.device.report_checks import SentReport
from controller.domain.errors import Unavailable
from controller.domain.ids import DeviceId
from controller.store import device_identities
from controller.store.database import Database, open_engine, record_change
from controller.trust.identity.sessions import Sessions
from controller.use_cases.create_group import create_group
from controller.use_cases.record_reports import Receipt
from controller.use_cases.revoke_device import revoke_device
from controller.use_cases.set_pin import set_pin
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.messages import LifecycleState
from tests.support.fleet import Fleet
from tests.support.machines import signature_of


@dataclass
class Process:
    """One API process, with a monotonic clock that the test moves."""

    hot: HotPath
    database: Database
    seconds: list[float]

    async def poll(self, device_id: DeviceId, *, shows: int | None = None) -> int:
        """Poll as a device that shows the counter; return the counter that it has afterwards."""
        if shows is not None and self.hot.good_etag(device_id, self.hot.clock()) == etag_of(shows):
            return shows
        current = await self.hot.assignment(device_id)
        assert current is not None
        return current.counter

    async def settle(self, *devices: DeviceId) -> list[int]:
        """Let devices poll until the process remembers them; return their counters."""
        for device_id in devices:
            await self.poll(device_id)
        await self.hot.follow()
        return [await self.poll(device_id) for device_id in devices]

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """Collect what is asked of the database."""
        asked: list[str] = []

        def note(*call: Any) -> None:
            asked.append(call[2])

        event.listen(self.database.engine, "before_cursor_execute", note)
        yield asked
        event.remove(self.database.engine, "before_cursor_execute", note)


@dataclass
class Setting:
    """A fleet, and processes on its database."""

    fleet: Fleet
    opened: list[HotPath] = field(default_factory=list)

    async def process(self) -> Process:
        seconds = [1000.0]
        database = Database(open_engine(self.fleet.database.engine.url.render_as_string(hide_password=False)))
        hot = HotPath(
            database,
            self.fleet.director,
            Sessions(b"secret"),
            poll_s=60,
            report_lanes=1,
            clock=lambda: self.fleet.now,
            monotonic=lambda: seconds[0],
        )
        self.opened.append(hot)
        await hot.read_policy()
        return Process(hot, database, seconds)


@pytest.fixture
def setting(database: Database) -> Setting:
    """A fleet with two published versions, of which the first is pinned on everyone."""
    fleet = Fleet.create(database)
    fleet.publish(1)
    fleet.publish(2)
    set_pin(database, fleet.model, 1, "all", now=fleet.now)
    return Setting(fleet)


def run(setting: Setting, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        try:
            await test()
        finally:
            for hot in setting.opened:
                await hot.stop()
                hot._database.engine.dispose()

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_a_device_with_nothing_new_costs_no_query(setting: Setting) -> None:
    async def test() -> None:
        device_id = setting.fleet.enrol("cam")
        process = await setting.process()
        [counter] = await process.settle(device_id)
        with process.statements() as asked:
            assert await process.poll(device_id, shows=counter) == counter
        assert asked == []

    run(setting, test)


def test_a_policy_reaches_exactly_the_devices_that_it_concerns_and_costs_the_others_no_query(setting: Setting) -> None:
    async def test() -> None:
        fleet = setting.fleet
        create_group(fleet.database, "paris", "site=paris", None, now=fleet.now)
        near, far = fleet.enrol("near", site="paris"), fleet.enrol("far", site="lyon")
        process = await setting.process()
        at_near, at_far = await process.settle(near, far)
        fleet.wait(1)
        set_pin(fleet.database, fleet.model, 2, "paris", now=fleet.now)
        await process.hot.follow()
        with process.statements() as asked:
            assert await process.poll(far, shows=at_far) == at_far
        assert asked == []
        assert await process.poll(near, shows=at_near) > at_near

    run(setting, test)


def test_polls_that_arrive_together_share_their_queries(setting: Setting) -> None:
    async def test() -> None:
        ids = [setting.fleet.enrol(f"cam-{number}") for number in range(50)]
        process = await setting.process()
        await process.settle(*ids)
        with process.statements() as asked:
            await asyncio.gather(*(process.hot.assignment(device_id) for device_id in ids))
        assert len([statement for statement in asked if "FROM assignment" in statement]) == 1

    run(setting, test)


def test_a_device_that_was_told_more_by_another_process_is_never_told_less(setting: Setting) -> None:
    async def test() -> None:
        fleet = setting.fleet
        device_id = fleet.enrol("cam")
        knows, lags = await setting.process(), await setting.process()
        [counter] = await lags.settle(device_id)
        set_pin(fleet.database, fleet.model, 2, "all", now=fleet.now)
        await knows.hot.follow()
        newer = await knows.poll(device_id, shows=counter)
        assert newer > counter
        assert await lags.poll(device_id, shows=newer) == newer

    run(setting, test)


def test_what_one_process_issues_the_others_stop_calling_good(setting: Setting) -> None:
    async def test() -> None:
        fleet = setting.fleet
        device_id = fleet.enrol("cam")
        one, two = await setting.process(), await setting.process()
        [counter] = await two.settle(device_id)
        await one.settle(device_id)
        set_pin(fleet.database, fleet.model, 2, "all", now=fleet.now)
        await one.hot.follow()
        newest = await one.poll(device_id, shows=counter)
        # The device never got that answer, and asks the other process with what it has.
        set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
        await two.hot.follow()
        assert await two.poll(device_id, shows=counter) > newest

    run(setting, test)


def test_a_fill_that_was_under_way_during_a_change_does_not_stay(setting: Setting) -> None:
    async def test() -> None:
        fleet = setting.fleet
        device_id = fleet.enrol("cam")
        process = await setting.process()
        [counter] = await process.settle(device_id)
        has_read, may_go_on = threading.Event(), threading.Event()

        def hold(*call: Any) -> None:
            # The last query of a fill: what it needs has been read, and not yet been handed over.
            if "FROM device \nWHERE" in call[2] and not has_read.is_set():
                has_read.set()
                may_go_on.wait(30)

        event.listen(process.database.engine, "after_cursor_execute", hold)
        fill = asyncio.create_task(process.hot.assignment(device_id))
        await asyncio.to_thread(has_read.wait, 30)
        refuse(fleet, device_id)
        await process.hot.follow()
        may_go_on.set()
        await fill
        assert process.hot.good_etag(device_id, fleet.now) is None
        assert await process.poll(device_id, shows=counter) > counter

    run(setting, test)


def test_a_process_that_no_longer_hears_of_changes_asks_the_database_each_time(setting: Setting) -> None:
    async def test() -> None:
        fleet = setting.fleet
        device_id = fleet.enrol("cam")
        process = await setting.process()
        [counter] = await process.settle(device_id)
        set_pin(fleet.database, fleet.model, 2, "all", now=fleet.now)
        process.seconds[0] += DEAF_AFTER_S
        assert await process.poll(device_id, shows=counter) == counter
        process.seconds[0] += 0.1
        assert await process.poll(device_id, shows=counter) > counter

    run(setting, test)


def signed_report(fleet: Fleet, device_id: DeviceId, key: ec.EllipticCurvePrivateKey) -> SentReport:
    """Return what the device reports next."""
    body = json.dumps(fleet.batch(device_id).to_json()).encode()
    return SentReport(device_id, body, signature_of(key, body).encode())


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def rekey(fleet: Fleet, device_id: DeviceId, key: ec.EllipticCurvePrivateKey) -> None:
    """Let another process write a new key for the device."""
    with fleet.database.writing() as tx:
        device_identities.set_certificate(tx, device_id, pem_of(key), "1", fleet.now)
        record_change(tx, fleet.now, [device_id])


def test_a_devices_key_is_read_once_for_all_of_its_reports(setting: Setting) -> None:
    async def test() -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        device_id = setting.fleet.enrol("cam", public_key_pem=pem_of(key))
        process = await setting.process()
        with process.statements() as asked:
            for _ in range(3):
                assert await process.hot.report(signed_report(setting.fleet, device_id, key)) is Receipt.APPLIED
        assert len([one for one in asked if one.startswith("SELECT device.id, device.public_key_pem")]) == 1

    run(setting, test)


def test_a_report_under_a_new_key_is_taken_by_a_process_that_has_not_heard_of_it(setting: Setting) -> None:
    async def test() -> None:
        old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        device_id = setting.fleet.enrol("cam", public_key_pem=pem_of(old))
        process = await setting.process()
        await process.hot.report(signed_report(setting.fleet, device_id, old))
        rekey(setting.fleet, device_id, new)
        assert await process.hot.report(signed_report(setting.fleet, device_id, new)) is Receipt.APPLIED

    run(setting, test)


def test_a_key_that_was_replaced_signs_nothing_once_the_process_has_heard_of_it(setting: Setting) -> None:
    async def test() -> None:
        old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        device_id = setting.fleet.enrol("cam", public_key_pem=pem_of(old))
        process = await setting.process()
        await process.hot.report(signed_report(setting.fleet, device_id, old))
        rekey(setting.fleet, device_id, new)
        await process.hot.follow()
        with pytest.raises(ProtocolError, match="E_SIG_THRESHOLD"):
            await process.hot.report(signed_report(setting.fleet, device_id, old))

    run(setting, test)


def test_a_process_that_no_longer_hears_of_changes_reads_keys_each_time(setting: Setting) -> None:
    async def test() -> None:
        old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        device_id = setting.fleet.enrol("cam", public_key_pem=pem_of(old))
        process = await setting.process()
        await process.hot.report(signed_report(setting.fleet, device_id, old))
        rekey(setting.fleet, device_id, new)
        process.seconds[0] += DEAF_AFTER_S + 1
        with pytest.raises(ProtocolError, match="E_SIG_THRESHOLD"):
            await process.hot.report(signed_report(setting.fleet, device_id, old))

    run(setting, test)


def test_a_revoked_device_is_told_nothing_more_by_any_process_that_has_heard_of_it(setting: Setting) -> None:
    async def test() -> None:
        fleet = setting.fleet
        device_id = fleet.enrol("cam")
        process = await setting.process()
        [counter] = await process.settle(device_id)
        revoke_device(fleet.database, "cam", now=fleet.now)
        await process.hot.follow()
        assert process.hot.good_etag(device_id, fleet.now) is None
        assert await process.hot.assignment(device_id) is None
        assert counter

    run(setting, test)


def test_without_a_database_nothing_is_claimed_and_nothing_is_acknowledged(sqlite_url: str, tmp_path: Path) -> None:
    setting = Setting(Fleet.create(Database(open_engine(sqlite_url))))
    file, away = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "away.db"

    async def test() -> None:
        device_id = setting.fleet.enrol("cam")
        process = await setting.process()
        [counter] = await process.settle(device_id)
        take_away(process.database, file, away)
        process.seconds[0] += DEAF_AFTER_S + 1
        with pytest.raises(Unavailable):
            await process.poll(device_id, shows=counter)
        with pytest.raises(Unavailable):
            await process.hot.report(SentReport(device_id, b"{}", b""))
        bring_back(file, away)
        assert await process.poll(device_id, shows=counter) == counter

    run(setting, test)
    setting.fleet.database.engine.dispose()


def take_away(database: Database, file: Path, away: Path) -> None:
    """Leave nothing that could be opened where the database was."""
    database.engine.dispose()
    file.rename(away)
    file.mkdir()


def bring_back(file: Path, away: Path) -> None:
    file.rmdir()
    away.rename(file)


def refuse(fleet: Fleet, device_id: DeviceId) -> None:
    """Let the device refuse what it runs, which changes what it shall run."""
    fleet.report(device_id, LifecycleState.FAILED)
