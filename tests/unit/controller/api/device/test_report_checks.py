"""What a process remembers of devices' keys, each rule by the situation in which a process without it would be wrong.

How keys are used, and read when they are not known, is tried on real databases in `test_hot_path.py`.
"""

from cryptography.hazmat.primitives.asymmetric import ec

from controller.api.device.report_checks import RememberedKeys
from controller.domain.ids import DeviceId

ONE, OTHER, THIRD = (DeviceId(f"dv_{name}") for name in ("one", "other", "third"))
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def known(keys: RememberedKeys) -> set[DeviceId]:
    return set(keys.of([ONE, OTHER, THIRD]))


def test_a_key_that_was_learned_is_known() -> None:
    keys = RememberedKeys()
    keys.learn(3, {ONE: KEY})
    assert keys.of([ONE, OTHER]) == {ONE: KEY}


def test_a_change_of_the_device_forgets_its_key_and_no_other() -> None:
    keys = RememberedKeys()
    keys.learn(3, {ONE: KEY, OTHER: KEY})
    keys.forget([ONE], everything=False, position=4)
    assert known(keys) == {OTHER}


def test_a_log_that_no_longer_reaches_back_forgets_every_key() -> None:
    keys = RememberedKeys()
    keys.learn(3, {ONE: KEY, OTHER: KEY})
    keys.forget([], everything=True, position=5000)
    assert known(keys) == set()


def test_what_was_read_before_a_change_that_was_heard_of_already_is_not_remembered() -> None:
    keys = RememberedKeys()
    keys.forget([ONE], everything=False, position=4)
    keys.learn(3, {ONE: KEY})
    assert known(keys) == set()
    keys.learn(4, {ONE: KEY})
    assert known(keys) == {ONE}


def test_no_more_keys_are_remembered_than_allowed() -> None:
    keys = RememberedKeys(keys_max=2)
    for device in (ONE, OTHER, THIRD):
        keys.learn(1, {device: KEY})
    assert known(keys) == {OTHER, THIRD}
