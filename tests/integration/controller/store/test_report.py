"""The report of a version from what is stored, on both databases."""

from datetime import UTC, datetime

from controller.store.database import Database
from controller.store.views.overview import overview
from controller.store.views.report import report
from tests.support.compressed_versions import SEARCH, store_version, variant_rows

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def test_a_report_is_put_together_from_what_is_stored(database: Database) -> None:
    version_id = store_version(database, variant_rows(), NOW)
    with database.reading() as tx:
        found = report(tx, version_id)
    assert (found["model"], found["number"], found["created_at"], found["at_work"]) == ("digits", 1, NOW, True)
    first = found["variants"][0]
    assert (first["recipe"], first["sizes"]["wire_ratio"], len(first["steps"])) == ("structured-int8", 5.2, 2)
    (search,) = found["searches"]
    assert (search["id"], search["chosen"]) == (SEARCH, "structured-int8")
    on_front = {one["recipe"] for one in search["candidates"] if one["is_on_front"]}
    assert on_front == {"fp16", "fp32", "structured-int8"}


def test_the_overview_lists_versions_with_how_far_they_are(database: Database) -> None:
    store_version(database, variant_rows(), NOW)
    with database.reading() as tx:
        (version,) = overview(tx)["versions"]
    assert version == {
        "model": "digits",
        "number": 1,
        "notes": "a <first> try",
        "created_at": NOW,
        "variants": 7,
        "published": 2,
        "at_work": 2,
    }
