"""Which model the serving process serves in which slot: put there only after every byte was hashed again."""

from device_agent.failure import Failure
from device_agent.lifecycle import Found
from device_agent.protocol.errors import Code
from device_agent.protocol.messages import FailureStage
from device_agent.serving_client import LoadRequest, ServingClient, ServingStatus
from device_agent.slots import ModelStore

OPAQUE = "opaque"
"""The engine of artifacts that the device only keeps, for an application to use."""


class Placement:
    """Puts models of the store into the serving process."""

    def __init__(self, store: ModelStore, serving: ServingClient) -> None:
        """Use one store and one serving process."""
        self._store = store
        self._serving = serving

    def is_opaque(self, manifest: str) -> bool:
        """Tell whether the model is only delivered, and neither tested nor served."""
        return self._store.manifest(manifest).runtime.engine == OPAQUE

    def place(self, slot: str, manifest: str | None) -> Failure | None:
        """Make the slot serve the model, or nothing; return why the model cannot be served.

        A model that is damaged on disk is not refused, because it may be fetched again; one that does not load is.
        Raises ServingUnavailableError when the serving process does not answer.
        """
        if manifest is None:
            self._serving.unload(slot)
            return None
        found = self._store.inspect(manifest)
        if found is not Found.INTACT:
            message = f"the model {manifest} is {found} on disk"
            return Failure(FailureStage.VERIFY, Code.HASH_MISMATCH, message, refuses=False)
        if self.is_opaque(manifest):
            return None
        content = self._store.manifest(manifest)
        directory = self._store.directory(manifest)
        refused = self._serving.load(LoadRequest(slot, str(content.version), manifest, directory, content.main))
        return Failure(FailureStage.LOAD, refused.code, refused.message, refuses=True) if refused else None

    def differs(self, slot: str, manifest: str | None, serving: ServingStatus) -> bool:
        """Tell whether the slot serves something else than this model."""
        if serving.manifests.get(slot) == manifest:
            return False
        return manifest is None or self._store.inspect(manifest) is not Found.INTACT or not self.is_opaque(manifest)
