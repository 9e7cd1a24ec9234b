"""Claims on variants: one worker at a time, no result of a worker that was thought dead, an end to attempts."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from controller.domain.catalog import ATTEMPTS_MAX, VariantState
from controller.domain.ids import VariantId, VersionId
from controller.store import tables, variants
from controller.store.database import Database
from controller.store.leases import release_lease, take_lease
from controller.store.variants import Claim, LeaseLost
from controller.use_cases.publish_variant import publish_variant
from controller.use_cases.sweep import sweep
from controller.use_cases.variant_work import Workshop
from tests.support.workshops import (
    NOW,
    CollectedTasks,
    add_opaque,
    insert_exhausted_variant,
    open_workshop,
    variant_rows,
)

TakeClaim = Callable[..., Claim | None]


@pytest.fixture
def tasks() -> CollectedTasks:
    return CollectedTasks()


@pytest.fixture
def shop(database: Database, tmp_path: Path, tasks: CollectedTasks) -> Workshop:
    return open_workshop(database, tmp_path, tasks)


@pytest.fixture
def version_id(shop: Workshop, tmp_path: Path) -> VersionId:
    return add_opaque(shop, tmp_path)


@pytest.fixture
def variant_id(database: Database, version_id: VersionId) -> VariantId:
    return VariantId(variant_rows(database, version_id)["opaque"].id)


@pytest.fixture
def take(database: Database, variant_id: VariantId) -> TakeClaim:
    def take(owner: str, after_s: float = 0.0) -> Claim | None:
        now = NOW + timedelta(seconds=after_s)
        until = now + timedelta(seconds=60)
        with database.writing() as tx:
            return variants.claim(tx, variant_id, VariantState.MEASURED, owner, until=until, now=now)

    return take


def test_versions_of_a_model_count_from_one(shop: Workshop, version_id: VersionId, tmp_path: Path) -> None:
    second = add_opaque(shop, tmp_path)
    with shop.database.reading() as tx:
        query = select(tables.model_version.c.id, tables.model_version.c.number)
        assert dict(tx.execute(query).all()) == {version_id: 1, second: 2}


def test_a_claimed_variant_is_nobody_elses(shop: Workshop, take: TakeClaim, variant_id: VariantId) -> None:
    assert take("another")
    assert take("worker-1") is None
    assert publish_variant(shop, variant_id) is None


def test_a_variant_in_another_state_is_not_claimed(shop: Workshop, take: TakeClaim, variant_id: VariantId) -> None:
    assert publish_variant(shop, variant_id) is VariantState.PUBLISHED
    assert take("another") is None


def test_a_claim_that_ran_out_goes_to_the_next_and_the_late_result_is_refused(
    database: Database, take: TakeClaim
) -> None:
    late, successor = take("late"), take("successor", after_s=61)
    assert late
    assert successor
    assert successor.attempts == 2
    with pytest.raises(LeaseLost), database.writing() as tx:
        variants.finish(tx, late, VariantState.PUBLISHED, {}, NOW)
    with database.writing() as tx:
        variants.finish(tx, successor, VariantState.PUBLISHED, {}, NOW)


def test_a_claim_can_be_renewed_until_it_is_lost(database: Database, take: TakeClaim) -> None:
    held = take("held")
    assert held
    with database.writing() as tx:
        variants.renew(tx, held, None, until=NOW + timedelta(seconds=120))
    assert take("another", after_s=61) is None
    assert take("another", after_s=121)
    with pytest.raises(LeaseLost), database.writing() as tx:
        variants.renew(tx, held, None, until=NOW + timedelta(seconds=240))


def test_work_whose_claim_was_lost_meanwhile_changes_nothing(
    shop: Workshop, take: TakeClaim, version_id: VersionId, variant_id: VariantId
) -> None:
    def clock() -> datetime:
        # The second look at the clock comes before the result is written; by then another worker took over.
        looks.append(take("successor", after_s=61) if looks else None)
        return NOW

    looks: list[Claim | None] = []
    assert publish_variant(replace(shop, clock=clock), variant_id) is None
    row = variant_rows(shop.database, version_id)["opaque"]
    assert (row.state, row.lease_owner, row.manifest_sha256) == (VariantState.MEASURED, "successor", None)


def test_attempts_are_counted_at_the_claim_and_come_to_an_end(take: TakeClaim) -> None:
    claims = [take(f"worker-{attempt}", after_s=61.0 * attempt) for attempt in range(ATTEMPTS_MAX + 1)]
    assert [claim and claim.attempts for claim in claims] == [1, 2, 3, None]


def test_a_variant_whose_workers_all_died_is_given_up_by_the_sweep(
    shop: Workshop, tasks: CollectedTasks, version_id: VersionId
) -> None:
    insert_exhausted_variant(shop.database, version_id)
    result = sweep(shop.database, tasks, {}, now=NOW)
    assert (result.given_up, result.sent) == (1, 1)
    row = variant_rows(shop.database, version_id)["exhausted"]
    assert row.state == VariantState.FAILED
    assert f"given up after {ATTEMPTS_MAX} attempts" in row.error


def test_the_sweep_sends_again_what_was_lost_on_the_way(
    shop: Workshop, tasks: CollectedTasks, version_id: VersionId
) -> None:
    tasks.waiting.clear()
    assert sweep(shop.database, tasks, {}, now=NOW).sent == 1
    tasks.run_all(shop)
    assert variant_rows(shop.database, version_id)["opaque"].state == VariantState.PUBLISHED
    assert sweep(shop.database, tasks, {}, now=NOW).sent == 0


def test_a_hook_that_breaks_does_not_keep_the_others_from_running(shop: Workshop, tasks: CollectedTasks) -> None:
    ran: list[datetime] = []

    def broken(_now: datetime) -> None:
        raise ConnectionError("away")

    result = sweep(shop.database, tasks, {"broken": broken, "sound": ran.append}, now=NOW)
    assert result.broken == ("broken",)
    assert ran == [NOW]


def test_a_lease_has_one_owner_until_it_ends_or_is_given_back(database: Database) -> None:
    def take_beat(owner: str, after_s: float) -> bool:
        now = NOW + timedelta(seconds=after_s)
        with database.writing() as tx:
            return take_lease(tx, "beat", owner, until=now + timedelta(seconds=5), now=now)

    assert take_beat("a", 0)
    assert not take_beat("b", 1)
    assert take_beat("a", 4)
    assert not take_beat("b", 8)
    assert take_beat("b", 10)
    with database.writing() as tx:
        release_lease(tx, "beat", "a")
    assert not take_beat("a", 11)
    with database.writing() as tx:
        release_lease(tx, "beat", "b")
    assert take_beat("a", 11)
