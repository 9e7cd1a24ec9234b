"""`edgefleet worker`: workers of the production wiring, beside a controller that has an external broker."""

from cyclopts import App

from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.server import read_settings

app = App(name="worker")


@app.command
def start() -> None:
    """Start a worker. Any number may run, anywhere; one of them at a time sends the sweeps.

    It needs the controller's database, broker and state folder: EDGEFLEET_DATABASE_URL, EDGEFLEET_BROKER_URL and
    EDGEFLEET_STATE_DIR.
    """
    if read_settings().is_embedded:
        raise CommandFailed(
            "`edgefleet server start` runs the embedded worker itself; a separate one needs EDGEFLEET_BROKER_URL",
            ExitCode.USAGE,
        )
    from controller.trust.errors import TrustError
    from controller.wiring import services_from_environment
    from controller.worker.process import run_worker

    try:
        services = services_from_environment()
    except TrustError as error:
        raise CommandFailed(f"{error.code}: {error}") from error
    run_worker(services)
