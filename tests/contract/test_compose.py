"""docker-compose.yml cannot be started where there is no Docker, so at least it must not promise what is not there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from controller.cli.main import application
from controller.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "edgefleet-controller")

DEPLOYMENT_FILES = sorted(
    [ROOT / "docker-compose.yml", *(ROOT / "ops").glob("*.Dockerfile"), *(ROOT / "ops" / "systemd").iterdir()]
)

COMPOSE_VARIABLES = {"EDGEFLEET_PUBLISHED_PORT"}
"""Read by Docker Compose itself, not by the controller."""
KEY_VARIABLES = {"EDGEFLEET_KEY_PASSPHRASE", "EDGEFLEET_KEY_PASSPHRASE_FILE"}
"""Read where a key is opened, and nowhere else: a passphrase is no setting."""


def controller_commands() -> list[tuple[str, ...]]:
    """Every command line of the controller that a deployment file runs."""
    found = {tuple(SERVICES[name]["command"][1:]) for name in OURS}
    for file in DEPLOYMENT_FILES:
        found |= {tuple(line.split()) for line in re.findall(r"ExecStart=\S+/edgefleet (.*)", file.read_text())}
        found |= {
            tuple(re.findall(r'"([^"]+)"', line)) for line in re.findall(r'CMD \["edgefleet", (.*)\]', file.read_text())
        }
    return sorted(found)


@pytest.mark.parametrize("command", controller_commands(), ids=" ".join)
def test_every_command_of_a_deployment_is_one_that_the_program_has(command: tuple[str, ...]) -> None:
    function, bound, unused = application().parse_args(command, exit_on_error=False, print_error=False)
    assert function.__module__ == f"controller.cli.{command[0]}"
    assert bound.arguments or len(command) == 2
    assert unused == {}


def test_the_controller_is_named_in_every_kind_of_deployment() -> None:
    """Guards the test above: patterns that find nothing would pass."""
    assert {command[:2] for command in controller_commands()} == {
        ("server", "start"),
        ("server", "migrate"),
        ("worker", "start"),
        ("signer", "start"),
    }


@pytest.mark.parametrize("file", DEPLOYMENT_FILES, ids=lambda file: file.name)
def test_every_variable_of_a_deployment_is_a_setting(file: Path) -> None:
    known = {f"EDGEFLEET_{name.upper()}" for name in Settings.model_fields} | COMPOSE_VARIABLES | KEY_VARIABLES
    named = set(re.findall(r"EDGEFLEET_(?!AGENT_)[A-Z_]*[A-Z]", file.read_text()))
    assert named <= known


def test_every_service_of_ours_gets_the_production_wiring() -> None:
    for name in OURS:
        if name == "signer":
            continue
        environment = SERVICES[name]["environment"]
        values = {key.removeprefix("EDGEFLEET_").lower(): value for key, value in environment.items()}
        assert environment["EDGEFLEET_DATABASE_URL"].startswith("postgresql://"), name
        # Fields that are not in Settings, and wirings that do not mix, are refused here.
        assert not Settings(**values).is_embedded, name


def test_the_signer_is_alone_with_its_keys_and_knows_no_database() -> None:
    signer = SERVICES["signer"]
    assert not {"EDGEFLEET_DATABASE_URL", "EDGEFLEET_BROKER_URL", "EDGEFLEET_OPERATOR_TOKEN"} & set(
        signer["environment"]
    )
    assert signer["network_mode"] == "none"
    folder = signer["environment"]["EDGEFLEET_SIGNER_DIR"]
    for name in OURS:
        mounted = any(volume.split(":")[1] == folder for volume in SERVICES[name]["volumes"])
        assert mounted == (name == "signer"), name
        if name != "signer":
            socket = SERVICES[name]["environment"]["EDGEFLEET_SIGNER_SOCKET"]
            assert socket == signer["environment"]["EDGEFLEET_SIGNER_SOCKET"]


def test_secrets_come_from_the_environment_file_and_have_no_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    example = (ROOT / "ops" / "compose" / "example.env").read_text()
    required = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert required == {"POSTGRES_PASSWORD", "EDGEFLEET_OPERATOR_TOKEN", "EDGEFLEET_PUBLIC_URL"}
    assert set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE)) == required


def test_every_service_waits_for_a_condition_that_its_neighbour_can_meet() -> None:
    for name, service in SERVICES.items():
        for neighbour, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[neighbour], f"{name} waits for the health of {neighbour}"
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert neighbour == "migrate"


def test_there_are_several_api_processes_and_workers() -> None:
    assert [SERVICES[name]["deploy"]["replicas"] for name in ("api", "worker")] == [2, 2]
