"""Why a candidate was given up: one value that is committed, reported and, where it refuses, remembered."""

import errno
from dataclasses import dataclass
from typing import Self

from device_agent.journal import Refusal
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.messages import FailureStage

TRANSIENT = frozenset({Code.NETWORK, Code.HTTP, Code.SLOW_RETRIEVAL})
"""Codes of the link and the server: the same attempt may succeed later."""
_DOWNLOAD = TRANSIENT | {Code.NO_SPACE, Code.ENDLESS_DATA}


@dataclass(frozen=True)
class Failure:
    """A failure as reports say it."""

    stage: FailureStage
    code: str
    message: str
    refuses: bool
    """True when the candidate itself is to blame, so that this device shall not try it again."""

    @classmethod
    def of_acquisition(cls, error: ProtocolError | OSError) -> Self:
        """Describe a failure of the link, the repository or the disk, which is never the candidate's fault."""
        told = disk_error(error) if isinstance(error, OSError) else error
        stage = FailureStage.DOWNLOAD if told.code in _DOWNLOAD else FailureStage.VERIFY
        return cls(stage, told.label, str(told), refuses=False)

    def refusal(self, counter: int) -> Refusal:
        """Return what the journal remembers of a refused manifest."""
        return Refusal(counter, self.stage, str(self.code), self.message[:1000])


def disk_error(error: OSError) -> ProtocolError:
    """Return what a failure of the disk is reported as."""
    code = Code.NO_SPACE if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} else Code.INTERNAL
    return ProtocolError(code, str(error))
