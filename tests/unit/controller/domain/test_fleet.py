import pytest

from controller.domain.errors import InvalidInput
from controller.domain.fleet import Device, DeviceGroup, Term, parse_selector
from controller.domain.ids import DeviceId, GroupId
from tests.support.decisions import a_device, a_profile

LYON = a_device("lyon-1", labels={"site": "lyon", "line": "2"})
TURIN = a_device("turin-1", labels={"site": "turin"}, profile=a_profile(name="gateway"))
UNLABELLED = a_device("new-1", labels={})


def members(selector: str) -> list[Device]:
    group = DeviceGroup(GroupId("gr_1"), "some", parse_selector(selector))
    return [device for device in (LYON, TURIN, UNLABELLED) if group.matches(device)]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", [LYON, TURIN, UNLABELLED]),
        ("site=lyon", [LYON]),
        ("site = lyon", [LYON]),
        ("site=lyon,line=2", [LYON]),
        ("site=lyon, line=3", []),
        ("site", [LYON, TURIN]),
        ("profile=gateway", [TURIN]),
        ("profile!=gateway,site", [LYON]),
        ("site=", []),
    ],
)
def test_a_selector_matches_the_devices_that_fulfil_every_term(selector: str, expected: list[Device]) -> None:
    assert members(selector) == expected


def test_a_device_without_the_label_has_another_value_than_any() -> None:
    """As with Kubernetes' selectors: `site!=lyon` is also true of a device that has no site."""
    assert members("site!=lyon") == [TURIN, UNLABELLED]


def test_the_profile_cannot_be_claimed_by_a_label() -> None:
    pretender = a_device("pretender", labels={"profile": "gateway"})
    group = DeviceGroup(GroupId("gr_1"), "gateways", parse_selector("profile=gateway"))
    assert not group.matches(pretender)


def test_a_static_group_holds_its_members_whatever_their_labels() -> None:
    group = DeviceGroup(GroupId("gr_1"), "pilot", members=frozenset({DeviceId("dv_lyon-1")}))
    assert [group.matches(device) for device in (LYON, TURIN)] == [True, False]


def test_a_static_group_without_members_is_empty_and_not_everyone() -> None:
    assert not DeviceGroup(GroupId("gr_1"), "nobody", members=frozenset()).matches(LYON)


def test_the_terms_of_a_selector_are_read_in_order() -> None:
    assert parse_selector("site=lyon,line!=2,gpu") == (
        Term("site", "=", "lyon"),
        Term("line", "!=", "2"),
        Term("gpu", "exists"),
    )


@pytest.mark.parametrize(
    "term", ["=lyon", "Site=lyon", "site==lyon", "site=lyon paris", "site in (lyon)", "!site", "*"]
)
def test_a_term_outside_the_grammar_is_refused_by_name(term: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_selector(f"line=2,{term}")
    assert repr(term) in refused.value.detail
    assert (refused.value.code, refused.value.field) == ("bad_selector", "/selector")
