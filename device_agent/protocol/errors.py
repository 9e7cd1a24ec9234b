"""Why a device says no: stable codes, and the one error tree of the protocol.

A code is part of the wire contract: it appears in reports, in the controller's records and in the
operator's filters. Codes are added, never renamed.
"""

from enum import StrEnum


class Code(StrEnum):
    """What went wrong, in a form that a rule or a filter can use."""

    MALFORMED = "E_MALFORMED"
    WRONG_TYPE = "E_WRONG_TYPE"
    SIGNATURE = "E_SIG_THRESHOLD"
    KEY_REUSE = "E_KEY_REUSE"
    WRONG_DEVICE = "E_WRONG_DEVICE"
    WRONG_HARDWARE = "E_WRONG_HARDWARE"
    WRONG_SLOT = "E_WRONG_SLOT"
    CHANNEL = "E_CHANNEL"
    ROLLBACK = "E_ROLLBACK"
    ROLLBACK_OR_MIX = "E_ROLLBACK_OR_MIX"
    EQUIVOCATION = "E_EQUIVOCATION"
    CLOCK = "E_CLOCK"
    TIME_REPLAY = "E_TIME_REPLAY"
    EXPIRED = "E_FREEZE_EXPIRED"
    NOT_IN_IMAGE_REPO = "E_NOT_IN_IMAGE_REPO"
    DIRECTOR_IMAGE_MISMATCH = "E_DIRECTOR_IMAGE_MISMATCH"
    PARTIAL_BUNDLE = "E_PARTIAL_BUNDLE"
    HASH_MISMATCH = "E_HASH_MISMATCH"
    MANIFEST_PATH = "E_MANIFEST_PATH"
    DECRYPT = "E_DECRYPT"
    UNWRAP = "E_UNWRAP"
    ENDLESS_DATA = "E_ENDLESS_DATA"
    SLOW_RETRIEVAL = "E_SLOW_RETRIEVAL"
    METADATA = "E_METADATA"
    NETWORK = "E_NETWORK"
    HTTP = "E_HTTP"
    NO_SPACE = "E_NO_SPACE"
    INCOMPATIBLE = "E_INCOMPATIBLE"
    REFUSED_BEFORE = "E_REFUSED_BEFORE"
    LOAD = "E_LOAD"
    BEHAVIOUR = "E_BEHAVIOUR"
    HEALTH_COMMAND = "E_HEALTH_COMMAND"
    RUNTIME = "E_RUNTIME"
    BOOT_LOOP = "E_BOOT_LOOP"
    ALREADY_RUNNING = "E_ALREADY_RUNNING"
    INTERNAL = "E_INTERNAL"


class ProtocolError(Exception):
    """Something that arrived cannot be accepted; `code` says why and `role` says in which part."""

    def __init__(self, code: Code, message: str, *, role: str | None = None, status: int | None = None) -> None:
        """Keep the code apart from the words, for reports; `status` is that of an HTTP answer."""
        self.code = code
        self.role = role
        self.status = status
        super().__init__(message)

    @property
    def label(self) -> str:
        """The code with its role, as reports and logs show it: `E_SIG_THRESHOLD[timestamp]`, `E_HTTP_503[root]`."""
        code = f"{self.code}_{self.status}" if self.status else str(self.code)
        return f"{code}[{self.role}]" if self.role else code

    def __str__(self) -> str:
        return f"{self.label}: {super().__str__()}"
