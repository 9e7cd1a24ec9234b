"""What this machine can run, as far as it can be asked without loading the engine."""

import platform
from importlib import metadata

from device_agent.protocol.channels import Channel
from device_agent.protocol.profile import DeviceProfile

_OPSETS = {(1, 17): 20, (1, 18): 21, (1, 21): 22, (1, 22): 23, (1, 32): 28}
"""The newest default operator set of onnxruntime releases, from the release at which it changed on."""
NO_ENGINE = "opaque"


def engine_version() -> str | None:
    """Return the installed onnxruntime's version, None where there is none."""
    try:
        return metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:
        return None


def opset_max(version: str) -> int:
    """Return the newest default operator set that an onnxruntime release runs; 0 for one that is too old."""
    major, minor = (int(part) for part in version.split(".")[:2])
    known = [opset for release, opset in sorted(_OPSETS.items()) if release <= (major, minor)]
    return known[-1] if known else 0


def detect_profile(
    name: str, precisions: tuple[str, ...], memory_bytes: int, threads: int = 1, channel: Channel = Channel.PROD
) -> DeviceProfile:
    """Return the profile: what the operator states, and what the machine says of itself."""
    version = engine_version()
    return DeviceProfile(
        name=name,
        arch=platform.machine(),
        engine="onnxruntime" if version else NO_ENGINE,
        engine_version=version or "",
        opset_max=opset_max(version) if version else 0,
        precisions=precisions,
        memory_bytes=memory_bytes,
        threads=threads,
        channel=channel,
    )
