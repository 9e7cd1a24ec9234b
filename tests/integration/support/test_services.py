import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from sqlalchemy import select, text

from controller.store import tables
from controller.store.database import Database, open_engine
from tests.support.services import Postgres, Redis
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgres

STARTS_AND_WAITS = """
import sys
from tests.support.services import Postgres, Redis
servers = [Postgres(), Redis()]
print(*(f"{server.pid} {server.folder}" for server in servers), flush=True)
sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_test_session_leaves_no_server_running() -> None:
    command = [sys.executable, "-c", STARTS_AND_WAITS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout
        words = session.stdout.readline().split()
        pids, folders = [int(word) for word in words[::2]], words[1::2]
        assert [is_running(pid) for pid in pids] == [True, True]
        session.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, pids)), what="the servers of the killed session to end")
    for folder in folders:
        shutil.rmtree(folder)


def test_a_stopped_server_leaves_nothing_behind() -> None:
    with Redis() as server:
        assert server.folder.exists()
    assert not is_running(server.pid)
    assert not server.folder.exists()


def test_postgres_sorts_as_sqlite_does(postgres: Postgres) -> None:
    """With the machine's own language, `a` would come before `B` on one engine and after it on the other."""
    engine = open_engine(postgres.url("template1"))
    with engine.connect() as connection:
        ordered = connection.execute(text("SELECT x FROM (VALUES ('a'), ('B')) AS t (x) ORDER BY x")).scalars().all()
    engine.dispose()
    assert ordered == ["B", "a"]


def test_each_test_gets_a_database_and_a_queue_of_its_own(postgres_url: str, redis_url: str) -> None:
    """The second of two equal tests finds nothing of the first."""
    assert_untouched(postgres_url, redis_url)


def test_the_next_test_finds_nothing_of_the_one_before(postgres_url: str, redis_url: str) -> None:
    assert_untouched(postgres_url, redis_url)


def assert_untouched(postgres_url: str, redis_url: str) -> None:
    engine = open_engine(postgres_url)
    with Database(engine).writing() as connection:
        assert connection.execute(select(tables.change_counter.c.seq)).scalar_one() == 0
        connection.execute(tables.change_counter.update().values(seq=1))
    engine.dispose()
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys() == []
        client.set("left", "behind")
