"""The agent's error tree: what stops the agent itself, as opposed to what a device refuses to accept.

What arrives and cannot be accepted is a `protocol.errors.ProtocolError`; it never stops the agent.
"""


class AgentError(Exception):
    """The agent cannot start or go on. `code` is stable; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the code apart from the words."""
        self.code = code
        super().__init__(f"{code}: {message}")


class SettingsError(AgentError):
    """A setting has a value that the agent cannot use."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        """Name the field, the value and the way out."""
        super().__init__("E_SETTINGS", f"{field} is {value!r}; {remedy}")


class EnrolmentError(AgentError):
    """The controller turned the machine away, or the machine does not trust the controller."""

    def __init__(self, message: str) -> None:
        """Say what failed and the way out."""
        super().__init__("E_ENROLMENT", message)


class AlreadyRunningError(AgentError):
    """Another agent holds the state directory."""

    def __init__(self, state_dir: object) -> None:
        """Name the directory."""
        super().__init__("E_ALREADY_RUNNING", f"another agent works in {state_dir}; stop it or use another state_dir")


class ServingUnavailableError(AgentError):
    """The serving process does not answer; it is down, starting or stuck."""

    def __init__(self, message: str) -> None:
        """Say what was tried."""
        super().__init__("E_SERVING", message)
