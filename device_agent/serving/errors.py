"""What can go wrong in the inference process: one tree, each kind with its own answer.

ServingError
 |- LoadError        a model cannot be brought into service; the one that serves is untouched
 |   `- DataOutside  it names data outside of its own folder
 |- RequestRefused   the request is at fault; answered with its 4xx status, not counted against the model
 `- ModelFailed      the model could not answer a proper request; answered with 500 and counted
"""

from device_agent.protocol.errors import Code


class ServingError(Exception):
    """Root of everything that this package raises."""


class LoadError(ServingError):
    """The model cannot be loaded or does not run even once."""

    code = Code.LOAD


class DataOutside(LoadError):
    """The model keeps weights in a file that is not in its own folder, or is a link out of it."""

    code = Code.MANIFEST_PATH


class RequestRefused(ServingError):
    """The request cannot be answered as it stands; `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class ModelFailed(ServingError):
    """The model raised, or its outputs cannot be expressed, for a request that fits its signature."""


def misfit(field: str, value: object, expected: str) -> RequestRefused:
    """Return the refusal (400) of a field whose value is not what it must be; long values are cut."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return RequestRefused(400, f"{field} is {shown}; expected {expected}")
