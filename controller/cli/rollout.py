"""`edgefleet rollout`: bring a group to a version, in stages that stop and revert by themselves."""

from typing import Annotated

from cyclopts import App, Parameter, Token

from controller.cli.approval import signed_approval
from controller.cli.client import Client, Json, path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, moment, notices, print_json, screen, show_list
from controller.cli.rollout_tree import tree, watch

app = App(name="rollout")

COLUMNS = (
    field("MODEL", "model"),
    Column("FROM", lambda rollout: rollout["from_version"], "right"),
    Column("TO", lambda rollout: rollout["to_version"], "right"),
    field("GROUP", "group"),
    field("STATE", "state"),
    Column("STAGE", lambda rollout: f"{rollout['stage']}/{len(rollout['stages'])}", "right"),
    Column("HEALTHY", lambda rollout: rollout["counts"]["healthy"], "right"),
    Column("HIT", lambda rollout: rollout["counts"]["failed"] + rollout["counts"]["silent"], "right"),
    moment("SINCE", "state_since"),
    field("ID", "id"),
)

Watch = Annotated[bool, Parameter(name=["--watch", "-w"], negative="")]
Flag = Annotated[bool, Parameter(negative="")]


def _percentages(_type: type, tokens: list[Token]) -> tuple[float, ...]:
    parts = [part for token in tokens for part in token.value.split(",")]
    return tuple(float(part.removesuffix("%")) for part in parts if part.strip())


Stages = Annotated[tuple[float, ...], Parameter(converter=_percentages, n_tokens=1, negative="")]


@app.command
def create(
    model: str,
    version: int,
    /,
    *,
    group: Annotated[str, Parameter(name=["--group", "-g"])],
    stages: Stages = (10, 50, 100),
    soak: float = 600.0,
    success: float = 0.9,
    failure: float = 0.1,
    silent_after: float = 3600.0,
    dry_run: Flag = False,
    watch: Watch = False,
    timeout: float = 86_400.0,
    options: Options = DEFAULTS,
) -> int:
    """Start a rollout. One of a released version is only proposed, where such need another person's approval.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version to bring out.
    group
        The group; `all` is every device.
    stages
        Cumulative percentages of the group's devices.
    soak
        Seconds that the version must stay healthy on a device.
    success
        Share of a stage's devices that must be healthy before the next stage.
    failure
        Share of a stage's devices that may fail or fall silent; beyond it the rollout aborts and reverts.
    silent_after
        Seconds after which a device that took the version and says nothing counts as silent.
    dry_run
        Check it and show the stages, without starting anything.
    watch
        Follow it to its end; exit code 3 unless it succeeds.
    timeout
        Stop following after this many seconds (exit code 8).
    """
    gate = {"success_share": success, "failure_share": failure, "soak_s": soak, "silent_after_s": silent_after}
    body = {"model": model, "version": version, "group": group, "stages": list(stages), "gate": gate}
    with options.client() as client:
        rollout = client.post("/rollouts", body, validate_only="true" if dry_run else None)
        if watch and not dry_run:
            return _follow(client, rollout, options.output, timeout)
    _show(rollout, options.output)
    if dry_run:
        notices().print("nothing was started (--dry-run)")
    elif rollout["state"] == "proposed":
        notices().print(f"another person starts it: edgefleet rollout approve {rollout['id']}", soft_wrap=True)
    return ExitCode.OK


@app.command(name="list")
def list_rollouts(*, options: Options = DEFAULTS) -> None:
    """List the rollouts, newest first."""
    with options.client() as client:
        empty = "No rollouts. Start one: edgefleet rollout create MODEL VERSION --group all"
        show_list(client.items("/rollouts"), COLUMNS, options.output, empty=empty)


@app.command
def get(
    rollout: str,
    /,
    *,
    watch: Watch = False,
    exit_status: Flag = False,
    timeout: float = 86_400.0,
    options: Options = DEFAULTS,
) -> int:
    """Show a rollout: its stages, counts, hit devices, and what it waits for.

    Parameters
    ----------
    rollout
        Its id.
    watch
        Follow it to its end.
    exit_status
        Exit with code 3 if it was aborted.
    timeout
        Stop following after this many seconds (exit code 8).
    """
    with options.client() as client:
        document = client.get(path_of("rollouts", rollout))
        if watch:
            code = _follow(client, document, options.output, timeout)
        else:
            _show(document, options.output)
            code = _code(document)
    return code if exit_status else ExitCode.OK


@app.command
def approve(
    rollout: str,
    /,
    *,
    key: str | None = None,
    valid_days: float = 365.0,
    options: Options = DEFAULTS,
) -> None:
    """Let a rollout that another person proposed begin.

    Parameters
    ----------
    rollout
        Its id.
    key
        File or URI of the approver's key, such as `awskms:...`: signs the approval, which some installations' signer
        asks for.
    valid_days
        How long a signed approval holds; afterwards the signer renews no assignment of the version.
    """
    with options.client() as client:
        body = {"approval": signed_approval(client, rollout, key, valid_days)} if key else None
        _show(client.post(f"{path_of('rollouts', rollout)}:approve", body), options.output)


@app.command
def pause(rollout: str, /, *, options: Options = DEFAULTS) -> None:
    """Give the version to no further device; those that have it keep it."""
    _steer(rollout, "pause", options)


@app.command
def resume(rollout: str, /, *, options: Options = DEFAULTS) -> None:
    """Go on with a paused rollout."""
    _steer(rollout, "resume", options)


@app.command
def abort(rollout: str, /, *, options: Options = DEFAULTS) -> None:
    """End a rollout: every device that took the version goes back. A proposed one is rejected."""
    _steer(rollout, "abort", options)


def _steer(rollout: str, verb: str, options: Options) -> None:
    with options.client() as client:
        _show(client.post(f"{path_of('rollouts', rollout)}:{verb}"), options.output)


def _follow(client: Client, rollout: Json, output: str, timeout_s: float) -> int:
    # JSON is data for stdout, so that the moving picture goes to stderr then.
    console = notices() if output == "json" else screen()
    try:
        ended = watch(client, rollout, console, timeout_s=timeout_s)
    except KeyboardInterrupt:
        raise CommandFailed(
            f"stopped watching; the rollout goes on: edgefleet rollout get {rollout['id']} --watch",
            ExitCode.INTERRUPTED,
        ) from None
    if output == "json":
        print_json(ended)
    return _code(ended)


def _code(rollout: Json) -> int:
    return ExitCode.NOT_COMPLETED if rollout["state"] in {"reverting", "aborted"} else ExitCode.OK


def _show(rollout: Json, output: str) -> None:
    if output == "json":
        print_json(rollout)
    else:
        screen().print(tree(rollout))
