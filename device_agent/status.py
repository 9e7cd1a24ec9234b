"""What a device is and runs, read from its state directory while its agent works or not."""

from typing import Any

from device_agent.clock import DeviceClock
from device_agent.errors import ServingUnavailableError
from device_agent.identity import load_identity
from device_agent.journal import JournalDamagedError, Record, open_journal
from device_agent.settings import Settings
from device_agent.staleness import is_stale
from device_agent.wiring import JOURNAL_FILE, serving_client


def read_status(settings: Settings) -> dict[str, Any]:
    """Return the status as JSON has it; nothing is changed by reading it."""
    identity = load_identity(settings.state_dir)
    try:
        record, damaged = open_journal(settings.state_dir / JOURNAL_FILE).record, False
    except JournalDamagedError:
        record, damaged = Record(), True
    return {
        "device": identity.device if identity else None,
        "controller": identity.controller_url if identity else settings.controller_url,
        "counter": record.mark.counter if record.mark else None,
        "stale": is_stale(record, DeviceClock().now(record)),
        "state_damaged": damaged,
        "serving": _serving(settings),
        "slots": {name: _slot(record, name) for name in sorted(record.slots)},
    }


def _serving(settings: Settings) -> dict[str, Any] | None:
    try:
        serving = serving_client(settings).status()
    except ServingUnavailableError:
        return None
    return {"pid": serving.pid, "url": serving.inference_url, "slots": serving.manifests}


def _slot(record: Record, name: str) -> dict[str, Any]:
    slot = record.slot(name)
    return {
        "active": slot.active,
        "good": slot.good,
        "on_trial": slot.trial is not None,
        "refused": {manifest: refusal.code for manifest, refusal in slot.refused.items()},
    }


def format_status(status: dict[str, Any]) -> str:
    """Return the status for people."""
    serving = status["serving"]
    lines = [
        f"device      {status['device'] or 'not enrolled'}",
        f"controller  {status['controller']}",
        f"assignment  {status['counter'] or 'none yet'}{' (stale: it has expired)' if status['stale'] else ''}",
        f"serving     {serving['url'] if serving else 'down'}",
    ]
    for name, slot in status["slots"].items():
        state = "on trial" if slot["on_trial"] else "confirmed"
        lines.append(f"slot {name}: {slot['active'] or 'empty'} {state if slot['active'] else ''}".rstrip())
        lines += [f"  refused {manifest}: {code}" for manifest, code in slot["refused"].items()]
    return "\n".join(lines)
