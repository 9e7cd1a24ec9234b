"""Settings: every source, their order, and that a bad value is refused with field, value and remedy."""

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

import pytest

from device_agent import settings as settings_module
from device_agent.errors import SettingsError
from device_agent.settings import Settings, load_settings

REQUIRED = ("controller_url=http://c", "state_dir=/var/lib/agent", "name=cam-1")


def load(*pairs: str, environment: dict[str, str] | None = None, file: Path | None = None) -> Settings:
    return load_settings(file, environment or {}, (*REQUIRED, *pairs))


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[polling]\ninterval_s = 1\nminimum_s = 1\n[health]\ncommand = ['check']\n")
    environment = {"EDGEFLEET_AGENT_POLLING_INTERVAL_S": "2", "EDGEFLEET_AGENT_LABELS": '{"site": "north"}'}
    found = load("polling.interval_s=3", environment=environment, file=file)
    assert found.polling.interval_s == 3
    assert found.polling.minimum_s == 1
    assert found.health.command == ("check",)
    assert found.labels == {"site": "north"}
    assert load(environment=environment, file=file).polling.interval_s == 2


def test_paths_are_absolute_because_the_agent_works_in_its_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load("state_dir=state", "enrolment_token_file=token", "ca_file=ca.pem", "anchors_dir=anchors")
    assert found.state_dir == tmp_path / "state"
    assert (found.enrolment_token_file, found.ca_file) == (f"{tmp_path}/token", f"{tmp_path}/ca.pem")
    assert found.anchors_dir == f"{tmp_path}/anchors"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("client_certificate=yes", "client_certificate is 'yes'; make it true or false"),
        ("channel=beta", "channel is 'beta'; use one of prod, dev"),
        ("controller_url=ftp://c", "controller_url is 'ftp://c'; give a URL that begins with http"),
        ("name=Camera 1", "name is 'Camera 1'; use lower-case letters"),
        ("polling.interval_s=soon", "polling.interval_s is 'soon'; make it a number"),
        ("polling.interval_s=-1", "polling.interval_s is -1; make it a number"),
        ("polling.minimum_s=1e9", "make it at most polling.maximum_s"),
        ("health.command=check", "health.command is 'check'; make it a list of texts"),
        ("health.timeout_s=0", "health.timeout_s is 0; make it at least 0.1"),
        ("profile.memory_bytes=true", "make it a whole number"),
        ("profile.memory_bytes=1.5e9", "make it a whole number"),
        ("profile.threads=0", "profile.threads is 0; make it at least 1"),
        ("profile.threads=257", "profile.threads is 257; make it at most 256"),
        ("inference.listen=8700", "inference.listen is '8700'; give HOST:PORT"),
        ("inference.listen=127.0.0.1:99999", "give HOST:PORT"),
        ("log.level=loud", "log.level is 'loud'; use one of debug, info, warning, error"),
        ("labels=[1]", "make it a table of texts"),
        ("polling.intervall_s=1", "did you mean polling.interval_s?"),
        ("nonsense=1", "there is no such setting"),
    ],
)
def test_a_bad_value_is_refused_with_field_value_and_remedy(pair: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(pair)
    assert message in str(caught.value)


def test_an_unknown_name_in_file_or_environment_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[polling]\ninterval = 1\n")
    with pytest.raises(SettingsError, match=r"polling\.interval is 1; .*did you mean interval_s"):
        load(file=file)
    with pytest.raises(SettingsError, match="did you mean EDGEFLEET_AGENT_NAME"):
        load(environment={"EDGEFLEET_AGENT_NAMES": "x"})


def test_a_missing_file_broken_toml_and_a_missing_required_field_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--config"):
        load(file=tmp_path / "none.toml")
    file = tmp_path / "agent.toml"
    file.write_text("name = ")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(file=file)
    with pytest.raises(SettingsError, match="controller_url is None; it has no default; set it"):
        load_settings(None, {}, ())


def test_the_token_comes_from_the_settings_or_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("eft_a_b_c\n")
    assert load("enrolment_token=eft_1_2_3").read_token() == "eft_1_2_3"
    assert load(f"enrolment_token_file={file}").read_token() == "eft_a_b_c"
    with pytest.raises(SettingsError, match="set it to a one-time token"):
        load().read_token()
    with pytest.raises(SettingsError, match="cannot be read"):
        load("enrolment_token_file=/nowhere/token").read_token()


def test_every_field_is_documented() -> None:
    tree = ast.parse(inspect.getsource(settings_module))
    for node in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and not _is_table(node.name, field):
                documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                assert documented, f"{node.name}.{ast.unparse(field.target)} has no description"


def _is_table(name: str, field: ast.AnnAssign) -> bool:
    kind = typing.get_type_hints(getattr(settings_module, name))[ast.unparse(field.target)]
    return dataclasses.is_dataclass(kind)
