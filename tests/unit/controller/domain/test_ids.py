from controller.domain.ids import PREFIXES


def test_every_kind_of_id_has_a_prefix_of_its_own() -> None:
    """An id in a log line or a command says what it names."""
    assert len(set(PREFIXES.values())) == len(PREFIXES) == 11
