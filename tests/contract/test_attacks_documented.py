from collections import Counter

from ops.docs.attacks import PAGE, attacks, render
from tests.support.attacks import Group


def test_the_page_of_attacks_is_the_one_that_the_tests_make() -> None:
    assert PAGE.read_text() == render(), "attack tests have changed; run: ./run exec python -m ops.docs.attacks"


def test_every_kind_of_attack_is_played() -> None:
    assert {one.group for one in attacks()} == set(Group)


def test_a_listed_test_names_the_outcome_that_the_page_tells() -> None:
    silent = [
        one.test for one in attacks() if one.compares and one.outcome.startswith("E_") and one.outcome not in one.body
    ]
    assert silent == []


def test_no_attack_is_listed_twice() -> None:
    played = Counter((one.group, one.what) for one in attacks())
    assert [what for what, times in played.items() if times > 1] == []
