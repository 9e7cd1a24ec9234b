from datetime import timedelta

import pytest

from controller.api.device.known_sessions import KnownSessions
from controller.trust.identity.sessions import SESSION_VALIDITY, AuthenticatedDevice, Sessions
from tests.support.decisions import NOW

SESSIONS = Sessions(b"secret")
CAMERA = AuthenticatedDevice("dv_camera")


def header(device: str = CAMERA, sessions: Sessions = SESSIONS) -> bytes:
    return b"Bearer " + sessions.token_for(AuthenticatedDevice(device), NOW).encode()


def test_a_token_names_its_device_the_first_time_and_every_time_after() -> None:
    known = KnownSessions(SESSIONS)
    assert [known.device_of(header(), NOW) for _ in range(2)] == [CAMERA, CAMERA]


def test_a_token_that_was_known_ends_when_it_says() -> None:
    known = KnownSessions(SESSIONS)
    known.device_of(header(), NOW)
    last = NOW + SESSION_VALIDITY - timedelta(seconds=1)
    assert known.device_of(header(), last) == CAMERA
    assert known.device_of(header(), NOW + SESSION_VALIDITY) is None
    assert known.device_of(header(), NOW + SESSION_VALIDITY) is None


def test_a_token_that_differs_in_one_character_is_another_token() -> None:
    known = KnownSessions(SESSIONS)
    known.device_of(header(), NOW)
    last = b"1" if header()[-1:] == b"0" else b"0"
    assert known.device_of(header()[:-1] + last, NOW) is None


@pytest.mark.parametrize(
    "shown", [b"", b"Bearer", b"Bearer ", b"Basic " + header()[7:], b"Bearer \xff\xfe", header()[7:]]
)
def test_a_header_without_a_token_of_ours_shows_nobody(shown: bytes) -> None:
    assert KnownSessions(SESSIONS).device_of(shown, NOW) is None


def test_the_scheme_may_be_written_in_any_case() -> None:
    assert KnownSessions(SESSIONS).device_of(b"bearer " + header()[7:], NOW) == CAMERA


def test_no_more_tokens_are_remembered_than_allowed() -> None:
    known = KnownSessions(SESSIONS, entries_max=2)
    for name in ("one", "two", "three"):
        assert known.device_of(header(name), NOW) == name
    assert len(known._known) == 2
