"""What the controller refuses, as one tree. Each error names the field, the value and the remedy.

    EdgefleetError
    |- InvalidInput      the request itself is wrong
    |- NotFound          it names something that is not there
    |- Conflict          it does not fit what is there
    |- NotAllowed        the caller has not shown who it is
    |- Forbidden         the caller is known, and may not
    `- Unavailable       a part of the system is out of order; the same request may succeed later

The API maps these to HTTP in one place (`api/problems.py`); the domain knows no status codes.
"""


class EdgefleetError(Exception):
    """Root of everything the controller refuses on purpose. `code` is stable; the text is for people."""

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None, field: str | None = None) -> None:
        """Take a detail that names the value and the remedy, a code, and the field as a JSON pointer."""
        self.detail = detail
        self.code = code or type(self).code
        self.field = field
        super().__init__(detail)


class InvalidInput(EdgefleetError):
    """The request itself is wrong and will stay wrong."""

    code = "invalid_input"


class NotFound(EdgefleetError):
    """The request names something that does not exist."""

    code = "not_found"


class Conflict(EdgefleetError):
    """The request does not fit the present state."""

    code = "conflict"


class NotAllowed(EdgefleetError):
    """The caller is not who it must be."""

    code = "not_allowed"


class Forbidden(EdgefleetError):
    """The caller is known, and this is not for it to do."""

    code = "forbidden"


class Unavailable(EdgefleetError):
    """A part of the system is out of order; the same request may succeed later."""

    code = "unavailable"
