"""The command `edgefleet`: the tree of nouns, and the one place where failures become exit codes.

Every noun is imported when it is used, so that `edgefleet --help` and completion stay quick.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App

from controller.cli.errors import CommandFailed, ExitCode

EPILOGUE = """Environment: EDGEFLEET_SERVER, EDGEFLEET_TOKEN, EDGEFLEET_TOKEN_FILE.

Exit codes: 0 done, 1 error, 2 usage, 3 ended but not well, 4 not allowed, 5 not found,
6 conflict, 7 invalid, 8 still running at --timeout."""

COMPRESS = "Search for the variant that keeps a budget."
REPORT = "Report what compression made of a version, on the screen or as a file."
DEMO = "Show the whole promise on this machine: upload, compress, sign, roll out, revert."
NOUNS = {
    "server": "Start the controller.",
    "signer": "Start the process that holds the online keys.",
    "worker": "Start workers beside a controller with an external queue.",
    "model": "Models: named capabilities.",
    "recipe": "Recipes: how variants are made.",
    "search": "Searches: which variant keeps a budget.",
    "version": "Model versions: immutable, numbered releases, and their compressed variants.",
    "variant": "Variants: which one devices may run, and why.",
    "device": "Devices: enrolled machines and what they run.",
    "group": "Device groups: selectors and static lists.",
    "pin": "Pins: which version a group runs.",
    "release": "Releases: versions that release keys vouch for, which devices on the channel prod may run.",
    "rollout": "Rollouts: bring a group to a version, in stages that stop by themselves.",
    "token": "Enrolment tokens for new devices.",
    "key": "Keys: who holds the roles that trust rests on, and how keys are replaced.",
    "operator": "Operators: tokens of persons, and what each may do.",
    "audit": "Audit log: who decided what, and the proof that it was not rewritten.",
}


def application() -> App:
    """Return the command tree; nouns are names until one is called."""
    from importlib.metadata import version

    tree = App(
        name="edgefleet",
        help="Bring machine-learning models to a fleet of edge devices.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version=lambda: version("edgefleet"),
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    tree.command("controller.cli.demo.command:demo", name="demo", help=DEMO)
    tree.command("controller.cli.compress:compress", name="compress", help=COMPRESS)
    tree.command("controller.cli.report:report", name="report", help=REPORT)
    for noun, purpose in NOUNS.items():
        tree.command(f"controller.cli.{noun}:app", name=noun, help=purpose)
    return tree


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code; a failure is one line on stderr."""
    try:
        result = application()(list(arguments))
        sys.stdout.flush()
    except CommandFailed as failure:
        print(f"edgefleet: {failure}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted; the interpreter must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    return result if isinstance(result, int) else ExitCode.OK


if __name__ == "__main__":
    main()
