"""The device profile: what a machine's hardware and runtime can run, and the test of a manifest against it.

Both sides run the same test: the controller when it chooses a variant, the device before it downloads one.
"""

from dataclasses import asdict, dataclass
from typing import Any

from device_agent.protocol.channels import Channel
from device_agent.protocol.fields import Fields
from device_agent.protocol.manifest import NAME, Runtime

THREADS_MAX = 256


@dataclass(frozen=True)
class DeviceProfile:
    """A class of machines. Devices with equal names are expected to behave alike."""

    name: str
    arch: str
    """As `uname -m` prints it: `x86_64`, `aarch64`, `armv7l`."""
    engine: str
    """The inference engine on board: `onnxruntime`, or `opaque` where the application runs the model."""
    engine_version: str
    opset_max: int
    precisions: tuple[str, ...]
    """What the class runs, best first: the order decides between variants that were not measured for the class."""
    memory_bytes: int
    """What a model may use at its peak."""
    threads: int = 1
    """How many threads answer one request."""
    channel: Channel = Channel.DEV
    """Which versions its owner lets it run. The device holds to it whatever the controller assigns."""

    @classmethod
    def read(cls, fields: Fields) -> "DeviceProfile":
        """Read a profile as a device sends it; older agents send neither `threads` nor `channel`."""
        return cls(
            name=fields.text("name", pattern=NAME),
            arch=fields.text("arch", most=32),
            engine=fields.text("engine", pattern=NAME),
            engine_version=fields.text("engine_version", most=32),
            opset_max=fields.integer("opset_max", most=1000),
            precisions=fields.texts("precisions", most=16),
            memory_bytes=fields.integer("memory_bytes"),
            threads=1 if fields.raw("threads") is None else fields.integer("threads", least=1, most=THREADS_MAX),
            channel=Channel.DEV if fields.raw("channel") is None else fields.one_of("channel", Channel),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {**asdict(self), "precisions": list(self.precisions)}


def incompatibilities(runtime: Runtime, profile: DeviceProfile) -> tuple[str, ...]:
    """Return every reason why this profile cannot run what the manifest describes; empty when it can."""
    if runtime.engine == "opaque":
        return ()
    reasons = []
    if runtime.engine != profile.engine:
        reasons.append(f"needs the engine {runtime.engine}; the profile has {profile.engine}")
    if runtime.opset > profile.opset_max:
        reasons.append(f"needs opset {runtime.opset}; the profile's runtime ends at {profile.opset_max}")
    if runtime.precision not in profile.precisions:
        reasons.append(f"is {runtime.precision}; the profile runs {', '.join(profile.precisions)}")
    if runtime.memory_bytes > profile.memory_bytes:
        reasons.append(f"needs {runtime.memory_bytes} bytes of memory; the profile has {profile.memory_bytes}")
    return tuple(reasons)
