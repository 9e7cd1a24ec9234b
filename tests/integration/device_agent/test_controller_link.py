"""The link over time: sessions, entity tags, backoff and the delivery of reports."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from device_agent.controller_client import ControllerClient, Refused
from device_agent.controller_link import ControllerLink
from device_agent.enrolment import obtain_identity
from device_agent.identity import Identity
from device_agent.profile_detection import detect_profile
from device_agent.protocol.messages import LifecycleItem, LifecycleState
from device_agent.reports import ReportSpool
from device_agent.settings import load_settings
from device_agent.stopping import StopSignal
from device_agent.transport import Transport
from tests.support.device_api import DeviceApi, Fault

ITEM = LifecycleItem("digits", 1, "a" * 64, LifecycleState.HEALTHY, datetime(2026, 3, 1, tzinfo=UTC))


class Device:
    """An enrolled device with a clock that the test moves."""

    def __init__(self, api: DeviceApi, directory: Path) -> None:
        pairs = (f"controller_url={api.url}", f"state_dir={directory}", "name=cam-1", f"enrolment_token={api.token()}")
        self.settings = load_settings(None, {}, pairs)
        client = ControllerClient(Transport(), api.url)
        profile = detect_profile("bench", ("fp32",), 1000)
        stop = StopSignal()
        identity = obtain_identity(self.settings, profile, client, random=Random(1), stop=stop)
        stop.close()
        assert identity
        self.identity: Identity = identity
        self.spool = ReportSpool(directory / "reports", "boot", 100, "dv_test")
        self.now = 0.0
        self.link = ControllerLink(client, identity, self.spool, self.settings.polling, Random(1), lambda: self.now)

    def wait_for_poll(self) -> None:
        """Let the time pass until the next poll is due."""
        self.now += self.link.due_in_s


@pytest.fixture
def device(api: DeviceApi, tmp_path: Path) -> Iterator[Device]:
    device = Device(api, tmp_path)
    yield device
    device.spool.close()


def test_nothing_is_asked_before_the_first_poll_is_due(api: DeviceApi, device: Device) -> None:
    assert 0 < device.link.due_in_s <= device.settings.polling.first_poll_spread_s
    assert device.link.poll_when_due() is None
    assert api.paths("/device/v1/assignment") == []


def test_an_accepted_assignment_is_not_sent_again_and_sets_the_interval(api: DeviceApi, device: Device) -> None:
    counter = api.assign({})
    device.wait_for_poll()
    fresh = device.link.poll_when_due()
    assert fresh
    assert fresh.body == api.envelope
    device.link.accept(fresh, poll_s=60)
    assert 54 <= device.link.due_in_s <= 66
    device.wait_for_poll()
    assert device.link.poll_when_due() is None
    assert api.requests[-1][2]["if-none-match"] == f'"{counter}"'
    assert 54 <= device.link.due_in_s <= 66


def test_a_rejected_assignment_is_asked_for_again_soon_and_whole(api: DeviceApi, device: Device) -> None:
    api.assign({})
    device.wait_for_poll()
    assert device.link.poll_when_due()
    device.link.reject("test")
    assert device.link.due_in_s <= device.settings.polling.retry_base_s
    device.wait_for_poll()
    assert device.link.poll_when_due()
    assert "if-none-match" not in api.requests[-1][2]


def test_a_session_that_is_over_is_replaced_within_the_same_poll(api: DeviceApi, device: Device) -> None:
    api.assign({})
    device.wait_for_poll()
    assert device.link.poll_when_due()
    api.sessions.clear()
    device.link.reject("test")
    device.wait_for_poll()
    assert device.link.poll_when_due()
    assert len(api.paths("/device/v1/session")) == 2


def test_an_overloaded_controller_is_left_alone_for_as_long_as_it_asks(api: DeviceApi, device: Device) -> None:
    api.assign({})
    api.faults["/device/v1/assignment"] = [Fault(status=503, retry_after="600")]
    device.wait_for_poll()
    assert device.link.poll_when_due() is None
    assert 600 <= device.link.due_in_s <= 1200
    device.spool.add([ITEM])
    device.link.deliver()
    assert api.batches == {}
    device.wait_for_poll()
    assert device.link.poll_when_due()


def test_a_device_that_is_not_known_any_more_slows_down(api: DeviceApi, device: Device) -> None:
    api.device_key = None
    device.wait_for_poll()
    waits = []
    for _ in range(40):
        assert device.link.poll_when_due() is None
        waits.append(device.link.due_in_s)
        device.wait_for_poll()
    assert max(waits) > device.settings.polling.retry_cap_s
    assert max(waits) <= 3600


def test_reports_are_sent_until_acknowledged_under_the_same_name(api: DeviceApi, device: Device) -> None:
    device.spool.add([ITEM])
    api.faults["/device/v1/reports"] = [Fault(cut_after=0)]
    device.link.deliver()
    batch = device.spool.cut()
    assert batch
    assert list(api.batches) == [batch.id], "the controller had it; only the answer was lost"
    device.wait_for_poll()
    device.link.deliver()
    assert list(api.batches) == [batch.id]
    assert device.spool.cut() is None


@pytest.mark.parametrize(("status", "kept"), [(400, False), (413, False), (500, True), (403, True), (429, True)])
def test_only_a_batch_that_can_never_be_accepted_is_dropped(
    api: DeviceApi, device: Device, status: int, *, kept: bool
) -> None:
    device.spool.add([ITEM])
    api.faults["/device/v1/reports"] = [Fault(status=status)]
    device.link.deliver()
    assert (device.spool.cut() is not None) is kept


def test_a_refusal_carries_the_controllers_code(api: DeviceApi, device: Device) -> None:
    api.device_key = None
    answer = ControllerClient(Transport(), api.url).open_session(device.identity)
    assert isinstance(answer, Refused)
    assert (answer.status, answer.code) == (401, "unknown_device")
