"""The device API over HTTP, on both databases."""

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from controller.api.app import create_app
from controller.store import tables
from controller.use_cases.create_model import create_model
from controller.use_cases.set_pin import set_pin
from controller.wiring import Services
from device_agent.protocol.assignment import Recipient, verify_assignment
from device_agent.protocol.channels import Channel
from device_agent.protocol.histogram import Histogram
from device_agent.protocol.messages import REPORT_BYTES_MAX, ServingItem, trust_pin
from tests.support.attacks import Group, plays
from tests.support.device_server import ServerProcess, services_at, serving
from tests.support.fleet import Fleet
from tests.support.machines import Machine, new_token, serving_batch
from tests.support.waiting import wait_until


@pytest.fixture
def services(state_dir: Path, database_url: str) -> Iterator[Services]:
    services = services_at(state_dir, database_url)
    yield services
    services.database.engine.dispose()


@pytest.fixture
def http(services: Services) -> Iterator[httpx.Client]:
    with serving(create_app(services)) as client:
        yield client


@pytest.fixture
def fleet(services: Services) -> Fleet:
    create_model(services.database, "digits", "", now=services.clock())
    return Fleet(services.database, services.director, services.clock(), repository=services.image_repository)


def a_device(services: Services, http: httpx.Client, name: str = "cam", **labels: str) -> Machine:
    """Return an enrolled machine with an open session."""
    machine = Machine(http, name)
    assert machine.enrol(new_token(services, **labels)).status_code == 201
    assert machine.open_session().status_code == 200
    return machine


def a_serving_item(services: Services) -> ServingItem:
    return ServingItem("digits", "a" * 64, services.clock(), 60.0, 1, 0, 64, Histogram(1, 0.004, {-127: 1}))


def codes(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestEnrolment:
    def test_a_machine_with_a_token_becomes_a_device_and_can_check_the_roots_it_is_given(
        self, services: Services, http: httpx.Client
    ) -> None:
        token = new_token(services)
        answer = Machine(http, "cam").enrol(token)
        assert answer.status_code == 201
        roots = [base64.b64decode(answer.json()[name]) for name in ("image_root", "director_root")]
        assert trust_pin(*roots) == token.rpartition("_")[2]

    def test_labels_of_the_token_override_the_devices_own(self, services: Services, http: httpx.Client) -> None:
        machine = Machine(http, "cam", labels={"site": "anywhere", "floor": "2"})
        machine.enrol(new_token(services, site="lyon"))
        with services.database.reading() as tx:
            labels = tx.execute(select(tables.device.c.labels)).scalar_one()
        assert labels == {"site": "lyon", "floor": "2"}

    def test_a_machine_that_asks_again_because_the_answer_was_lost_stays_the_same_device(
        self, services: Services, http: httpx.Client
    ) -> None:
        token, machine = new_token(services), Machine(http, "cam")
        first = machine.enrol(token).json()["device"]
        assert machine.enrol(token).json()["device"] == first

    def test_a_name_that_is_taken_is_refused_and_costs_no_use(self, services: Services, http: httpx.Client) -> None:
        Machine(http, "cam").enrol(new_token(services))
        token = new_token(services)
        assert codes(Machine(http, "cam").enrol(token)) == (409, "device_name_taken")
        assert Machine(http, "other").enrol(token).status_code == 201

    def test_a_request_that_proves_no_key_is_refused(self, services: Services, http: httpx.Client) -> None:
        machine = Machine(http, "cam")
        machine.csr_pem = lambda: "no request"  # type: ignore[method-assign]
        assert codes(machine.enrol(new_token(services))) == (422, "E_MALFORMED")

    def test_a_body_that_is_no_enrolment_is_refused(self, http: httpx.Client) -> None:
        assert codes(http.post("/device/v1/enrol", content=b"[]")) == (400, "E_MALFORMED[enrolment]")


class TestSession:
    def test_a_device_opens_a_session_by_signing_a_challenge(self, services: Services, http: httpx.Client) -> None:
        machine = a_device(services, http)
        assert services.sessions.check_token(machine.token, services.clock()) == machine.device_id

    @plays(Group.IDENTITY, "a session request answers a challenge that is not ours", "E_CHALLENGE")
    def test_a_foreign_challenge_opens_no_session(self, services: Services, http: httpx.Client) -> None:
        machine = a_device(services, http)
        assert codes(machine.open_session(challenge="efc1.00.9999999999.00")) == (401, "E_CHALLENGE")

    def test_polls_and_reports_need_a_session(self, http: httpx.Client) -> None:
        stranger = Machine(http, "stranger")
        assert codes(stranger.poll()) == (401, "session_over")
        assert codes(stranger.report(serving_batch("b1"))) == (401, "session_over")


class TestPoll:
    def test_the_first_poll_brings_a_signed_assignment_and_the_next_one_nothing_new(
        self, services: Services, http: httpx.Client
    ) -> None:
        machine = a_device(services, http)
        first = machine.poll()
        assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
        verified, _ = verify_assignment(
            first.content,
            root=services.director.root,
            recipient=Recipient(machine.device_id, "camera", Channel.DEV),
            mark=None,
            now=services.clock(),
        )
        assert first.headers["etag"] == f'"{verified.counter}"'
        second = machine.poll(first.headers["etag"])
        assert (second.status_code, second.headers["etag"], second.content) == (304, first.headers["etag"], b"")

    def test_a_device_that_shows_an_older_tag_gets_the_assignment_again(
        self, services: Services, http: httpx.Client
    ) -> None:
        machine = a_device(services, http)
        newest = machine.poll()
        assert machine.poll('"1"').content == newest.content
        assert machine.poll("no tag at all").content == newest.content

    def test_a_tag_that_a_proxy_made_weak_still_counts(self, services: Services, http: httpx.Client) -> None:
        machine = a_device(services, http)
        assert machine.poll(f"W/{machine.poll().headers['etag']}").status_code == 304

    def test_a_poll_is_remembered_as_the_devices_last_sign_of_life(
        self, services: Services, http: httpx.Client
    ) -> None:
        machine = a_device(services, http)
        machine.poll()

        def seen() -> list[str]:
            with services.database.reading() as tx:
                return list(tx.execute(select(tables.device_seen.c.device_id)).scalars())

        wait_until(lambda: seen() == [machine.device_id], what="the last sign of life")

    def test_a_device_that_is_gone_has_no_session_any_more(self, services: Services, http: httpx.Client) -> None:
        ghost = Machine(http, "ghost", token=services.sessions.token_for("dv_gone", services.clock()))  # type: ignore[arg-type]
        assert codes(ghost.poll()) == (401, "session_over")
        assert codes(ghost.report(serving_batch("b1", a_serving_item(services)))) == (401, "session_over")


class TestReports:
    def test_a_batch_is_acknowledged_each_time_and_kept_once(self, services: Services, http: httpx.Client) -> None:
        machine = a_device(services, http)
        batch = machine.numbered(serving_batch("b1", a_serving_item(services)))
        body = json.dumps(batch.to_json()).encode()
        assert [machine.send(body).status_code for _ in range(2)] == [200, 200]
        assert _batches_of_rows(services) == 1

    @pytest.mark.parametrize("code", ["E_MALFORMED[report]", "E_ENDLESS_DATA[body]"])
    def test_a_batch_that_can_never_be_accepted_is_refused_for_good(
        self, services: Services, http: httpx.Client, code: str
    ) -> None:
        padding = b" " * REPORT_BYTES_MAX if "ENDLESS" in code else b""
        assert codes(a_device(services, http).send(b'{"schema": 9}' + padding)) == (400, code)

    def test_both_calls_are_served_without_the_dispatcher_too(self, services: Services) -> None:
        with serving(create_app(services)._app) as plain:  # type: ignore[attr-defined]
            machine = a_device(services, plain)
            etag = machine.poll().headers["etag"]
            assert machine.poll(etag).status_code == 304
            assert machine.report(serving_batch("b1", a_serving_item(services))).status_code == 200


def test_two_processes_tell_a_device_the_same_and_never_go_back(
    services: Services, state_dir: Path, database_url: str, fleet: Fleet
) -> None:
    fleet.publish(1)
    fleet.publish(2)
    with (
        ServerProcess(state_dir, database_url) as one,
        ServerProcess(state_dir, database_url) as two,
        httpx.Client(base_url=one.url) as first,
        httpx.Client(base_url=two.url) as second,
    ):
        machine = a_device(services, first)
        etag, counters = None, []
        for turn in range(60):
            if turn % 10 == 0:
                set_pin(services.database, "digits", 1 + turn // 10 % 2, "all", now=services.clock())
            answer = machine.poll(etag, over=(first, second)[turn % 2])
            assert answer.status_code in (200, 304)
            etag = answer.headers["etag"]
            counters.append(int(etag.strip('"')))
        assert counters == sorted(counters)
        wait_until(lambda: _agree(machine, first, second), what="both processes to agree")


def test_no_acknowledged_report_is_lost_when_the_server_is_killed_under_load(
    services: Services, state_dir: Path, database_url: str
) -> None:
    acknowledged: set[str] = set()
    with ServerProcess(state_dir, database_url) as server:
        with httpx.Client(base_url=server.url) as client:
            machines = [a_device(services, client, f"cam-{number}") for number in range(8)]
        item = a_serving_item(services)

        def send(machine: Machine) -> None:
            with httpx.Client(base_url=server.url, timeout=5) as own:
                mine = machine.copy(http=own)
                for number in range(10_000):
                    try:
                        answer = mine.report(serving_batch(f"{mine.name}-{number}", item))
                    except httpx.TransportError:
                        return
                    if answer.status_code == 200:
                        acknowledged.add(f"{mine.name}-{number}")

        senders = [threading.Thread(target=send, args=(machine,)) for machine in machines]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(acknowledged) > 200, what="load")
        server.kill()
        for sender in senders:
            sender.join()
    with services.database.reading() as tx:
        kept = set(tx.execute(select(tables.report_batch.c.batch)).scalars())
    assert acknowledged - kept == set()
    assert _batches_of_rows(services) == len(kept)


def _agree(machine: Machine, *processes: httpx.Client) -> bool:
    return len({machine.poll(over=process).headers["etag"] for process in processes}) == 1


def _batches_of_rows(services: Services) -> int:
    with services.database.reading() as tx:
        return len(list(tx.execute(select(tables.serving_report.c.id))))
