"""The image repository: what a model version is. One TUF repository of static files below one directory.

`published` says what lies there and how it is read, `publication` how a new state gets there whole, `image_roles` who
signs what. This is what the rest of the controller does with it:

    install, install_root, install_targets     documents that offline keys signed   (`image_installation`)
    draft_release ... publish_release          the channel `prod`, by release keys  (`release_publication`)
    publish, refresh                           the channel `dev`, and what expires of the signer's roles
    behind, reissue                            after the folder was restored from a backup
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signature
from tuf.api.metadata import TargetFile, Targets

from controller.trust.custody.keys import KeyName
from controller.trust.durable_files import Write, exclusive, write_durably
from controller.trust.errors import TargetConflictError
from controller.trust.images.image_installation import Installation, online_roles, rekeyed_roles
from controller.trust.images.image_roles import bin_of, is_due, manifest_target, whole_seconds
from controller.trust.images.publication import Changes, Publication
from controller.trust.images.published import Published, PublishedFiles, PublishedTargets
from controller.trust.images.release_publication import ReleasePublication
from controller.trust.images.release_roles import ReleaseStatus, ReleaseTerms
from controller.trust.images.root_chain import RootChain
from controller.trust.signer.interface import OnlineSigner


class ImageRepository:
    """The image repository below one directory. Each call takes the directory's lock for its whole length."""

    def __init__(
        self,
        directory: Path,
        signer: OnlineSigner,
        write: Write = write_durably,
        *,
        single_operator: bool = True,
    ) -> None:
        """Name the directory and who signs the online roles; nothing is read or written yet.

        Without `single_operator` a root must need two people and bear the loss of a key.
        """
        self._directory = directory
        self._signer = signer
        self._write = write
        self._files = PublishedFiles(directory)
        self._publication = Publication(self._files, signer, write)
        self._installation = Installation(self._files, self._publication, signer, write, single_operator)
        self._releases = ReleasePublication(self._files, self._publication, write)
        self._lookups = PublishedTargets(directory)
        self.roots = RootChain(self._files.metadata, write)

    def install(self, root: bytes, targets: bytes, now: datetime) -> None:
        """Publish an empty repository under a root and delegations that offline keys signed.

        In one that exists already these may be its documents, which changes nothing, or the next ones, which are
        installed together. Raises DocumentRefused, TrustLint, TrustConflict or SigningKeyError; nothing is published
        then.
        """
        with exclusive(self._directory):
            if self._files.exist():
                self._installation.follow(root, targets, whole_seconds(now))
            else:
                self._installation.begin(root, targets, whole_seconds(now))

    def install_root(self, root: bytes, now: datetime, targets: bytes | None = None) -> None:
        """Install the next root; what its keys have not signed is signed anew.

        A root that replaces the keys of `targets` needs the targets that these have signed in the same call, or devices
        would accept neither. Raises as `install` does.
        """
        with exclusive(self._directory):
            self._installation.follow(root, targets, whole_seconds(now))

    def install_targets(self, targets: bytes, now: datetime) -> None:
        """Install the next delegations; `dev` and the bins are signed anew where their keys changed.

        Releases that the new delegations' keys have not signed stop being accepted: see `unsigned_releases`. Raises as
        `install` does.
        """
        with exclusive(self._directory):
            self._installation.follow(None, targets, whole_seconds(now))

    def publish(self, manifests: Iterable[bytes], now: datetime) -> tuple[str, ...]:
        """Sign manifests into the channel `dev`; return the target paths that were not published before.

        Only the bins concerned, the snapshot and the timestamp are signed. Publishing again what is published
        changes nothing. Raises ProtocolError for bytes that are no manifest, TargetConflictError for a manifest
        that is published with other content, SignedFilesError or SigningKeyError when the repository or its keys
        are not in order; in each case nothing is published.
        """
        contents = [(manifest_target(content), content) for content in manifests]
        with exclusive(self._directory):
            published = self._files.read()
            bins: dict[str, Targets] = {}
            added: list[str] = []
            for target, content in contents:
                role = bin_of(target.path)
                if role not in bins:
                    bins[role] = self._files.role(role, published)
                if self._add(target, content, bins[role]):
                    added.append(target.path)
            changed = {role: bins[role] for role in map(bin_of, added)}
            if changed:
                self._publication.commit(published, Changes(online=changed), whole_seconds(now))
        return tuple(added)

    def refresh(self, now: datetime) -> tuple[str, ...]:
        """Renew what expires soon of the signer's roles; return those that were signed, none within an hour.

        Also completes a root's installation that was cut off, and follows a new key of the bins. Documents that people
        sign are not renewed here.
        """
        now = whole_seconds(now)
        with exclusive(self._directory):
            published = self._files.read()
            changed = rekeyed_roles(self._files, published, self._signer) if self._holds_dev(published) else {}
            if not (changed or published.outdated or is_due("timestamp", published.timestamp, now)):
                return ()
            if not changed:
                roles = online_roles(self._files, published)
                changed = {role: signed for role, signed in roles.items() if is_due(role, signed, now)}
            if changed or published.outdated or is_due("snapshot", published.snapshot, now):
                self._publication.commit(published, Changes(online=changed), now)
                return (*changed, "snapshot", "timestamp")
            self._publication.commit_timestamp(published, now)
            return ("timestamp",)

    def behind(self) -> list[str]:
        """Return the roles of which the signer has signed a higher version than is published.

        That is so after the folder was restored from a backup: devices that saw the later state refuse this one until
        `reissue`. A publication that was cut off leaves a few roles behind as well, until it is made again.
        """
        with exclusive(self._directory):
            versions = self._files.read().versions()
        newest = self._signer.newest_versions()
        return sorted(role for role, version in versions.items() if version < newest.get(role, 0))

    def reissue(self, now: datetime) -> tuple[str, ...]:
        """Sign every online role again, above all that the signer has ever signed; return the roles.

        After that, devices go on that saw what a restored folder has forgotten. Documents that people signed keep
        their versions: bring back the newest ones with `install` and `publish_release`.
        """
        with exclusive(self._directory):
            published = self._files.read()
            newest = self._signer.newest_versions()
            changed = rekeyed_roles(self._files, published, self._signer) or online_roles(self._files, published)
            self._publication.commit(published, Changes(online=changed, above=newest), whole_seconds(now))
        return (*changed, "snapshot", "timestamp")

    def versions(self) -> dict[str, int]:
        """Return the published version of every role, those that people sign included."""
        with exclusive(self._directory):
            return self._files.read().versions()

    def read_targets(self, path: str) -> TargetFile | None:
        """Return the entry that is signed under a target path, `dev/...` or `prod/...`; None where none is."""
        with exclusive(self._directory):
            return self._lookups.target(path)

    def read_release(self, model: str) -> Targets | None:
        """Return what a model's release keys have signed; None before the first release.

        Raises ReleaseRoleMissing where nobody holds the role, SignedFilesError where its signatures do not count any
        more.
        """
        with exclusive(self._directory):
            return self._releases.read(model)

    def unsigned_releases(self) -> list[str]:
        """Return the release roles that devices refuse until release keys sign them again.

        Their keys were revoked, or their threshold was raised.
        """
        with exclusive(self._directory):
            return self._releases.unsigned()

    def draft_release(
        self,
        model: str,
        add: Sequence[bytes],
        remove_version: int | None,
        floor: int | None,
        hardware: Sequence[str],
        now: datetime,
    ) -> bytes:
        """Return the next document of `prod-MODEL`, unsigned: what is released now, plus manifests, minus a version.

        `floor` and `hardware` are the terms of the manifests that are added. Raises ReleaseRoleMissing, NotFound for a
        version that is not released, TargetConflictError, ProtocolError.
        """
        with exclusive(self._directory):
            return self._releases.draft(model, add, remove_version, ReleaseTerms(floor, hardware), whole_seconds(now))

    def release_status(self, document: bytes) -> ReleaseStatus:
        """Return who has signed a release document, and who may; DocumentRefused when it is none."""
        with exclusive(self._directory):
            return self._releases.status(document)

    def add_signature(self, document: bytes, signature: Signature) -> bytes:
        """Return a release document with one more signature, unchanged where it carries it already.

        DocumentRefused for a key that the role does not name, and for a signature over anything else.
        """
        with exclusive(self._directory):
            return self._releases.add_signature(document, signature)

    def publish_release(self, document: bytes, manifests: Sequence[bytes], now: datetime) -> bool:
        """Publish a release document that enough release keys have signed; say whether it was not yet published.

        `manifests` holds the bytes of its targets, those apart that are published already. Raises DocumentRefused,
        TargetConflictError, ReleaseRoleMissing, and TrustConflict when it does not follow the published one; nothing
        is published then.
        """
        with exclusive(self._directory):
            return self._releases.publish(document, manifests, whole_seconds(now))

    def _holds_dev(self, published: Published) -> bool:
        named = published.targets.get_delegated_role("dev").keyids
        return any(key.keyid in named for key in self._signer.public_keys(KeyName.IMAGE_DEV))

    def _add(self, target: TargetFile, content: bytes, signed_bin: Targets) -> bool:
        known = signed_bin.targets.get(target.path)
        if known and known.hashes != target.hashes:
            raise TargetConflictError(f"{target.path} is published with sha256 {known.hashes['sha256']}")
        path = self._files.target_path(target)
        if not path.exists():
            self._write(path, content)
        signed_bin.targets[target.path] = target
        return known is None
