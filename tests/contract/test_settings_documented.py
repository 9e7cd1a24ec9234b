from controller.settings import Settings
from ops.docs.settings import PAGE, render


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_settings_page_is_the_one_that_the_settings_make() -> None:
    assert PAGE.read_text() == render(), "the settings have changed; run: ./run exec python -m ops.docs.settings"
