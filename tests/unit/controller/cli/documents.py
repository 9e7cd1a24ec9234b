"""Documents as the REST API gives them."""

from typing import Any


def version(state: str = "ready", **changes: Any) -> dict[str, Any]:
    published = "published" if state == "ready" else "queued" if state == "processing" else "refused"
    variant = {
        "id": "va_1",
        "recipe": "int8",
        "state": published,
        "error": None,
        "wire_bytes": 177_300,
        "evaluation": {"metric": "accuracy", "value": 0.9825, "source_value": 0.985, "samples": 400},
        "facts": {},
        "manifest_sha256": "0" * 64,
    }
    return {
        "id": "ve_1",
        "model": "digits",
        "number": 2,
        "format": "onnx",
        "state": state,
        "artifact": {"sha256": "a" * 64, "size_bytes": 669_161},
        "notes": "better",
        "created_at": "2026-01-31T12:00:00Z",
        "variants": [variant],
        **changes,
    }


def rollout(state: str = "running", **changes: Any) -> dict[str, Any]:
    return {
        "id": "ro_1",
        "model": "digits",
        "group": "all",
        "from_version": 1,
        "to_version": 2,
        "state": state,
        "stage": 2,
        "stages": [{"percent": 17.0, "devices": 1}, {"percent": 50.0, "devices": 3}, {"percent": 100.0, "devices": 6}],
        "gate": {"success_share": 0.9, "failure_share": 0.1, "soak_s": 4.0, "silent_after_s": 60.0},
        "counts": {"taken": 1, "healthy": 2, "failed": 0, "silent": 0},
        "hit_devices": [],
        "not_back": 0,
        "explanation": "stage 2 of 3 waits: 2 of 3 devices healthy, 1 more needed",
        "created_at": "2026-01-31T12:00:00Z",
        "state_since": "2026-01-31T12:00:00Z",
        **changes,
    }
