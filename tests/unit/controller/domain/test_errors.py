import pytest

from controller.domain.errors import EdgefleetError


@pytest.mark.parametrize("kind", EdgefleetError.__subclasses__())
def test_every_kind_of_refusal_has_a_code_of_its_own_that_a_refusal_may_narrow(kind: type[EdgefleetError]) -> None:
    assert kind("words").code == kind.code
    assert kind("words", code="narrower", field="/name").code == "narrower"
    assert str(kind("words")) == kind("words").detail == "words"


def test_no_two_kinds_of_refusal_share_a_code() -> None:
    kinds: list[type[EdgefleetError]] = [EdgefleetError, *EdgefleetError.__subclasses__()]
    assert len({kind.code for kind in kinds}) == len(kinds)
