"""What can go wrong with artifacts that is nobody's input at fault. Refused input is a `domain.errors.InvalidInput`."""


class ArtifactsError(Exception):
    """Root of the package's errors."""


class JobFailed(ArtifactsError):
    """A child process ended without a result: killed, out of memory, out of time, or by a fault of ours.

    The same work may succeed on another attempt; whoever retries counts the attempts.
    """


class ProofFailed(ArtifactsError):
    """The device's own self-test does not accept what is about to be published."""
