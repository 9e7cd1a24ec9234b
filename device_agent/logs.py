"""Log lines on standard error: text for people, or one JSON object a line for machines."""

import json
import logging
import sys
from datetime import UTC, datetime

from device_agent.settings import LogSettings


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, logger, message, and error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logs(settings: LogSettings) -> None:
    """Send this process's log lines to standard error in the configured form."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # Both log every request at info or debug; what matters of it is logged by the agent itself.
    for chatty in ("urllib3", "tuf", "securesystemslib"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
