"""Where the commands of `edgefleet key` work that change trust: the state folder of the controller on this machine."""

import getpass
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.render import notices
from controller.cli.server import read_settings

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from controller.settings import Settings
    from controller.trust.ceremonies.ceremony import Finished
    from controller.trust.ceremonies.role_changes import Trust
    from controller.trust.custody.keys import KeyStore
    from controller.trust.signer.interface import OnlineSigner


@dataclass(frozen=True)
class Place:
    """One installation's folders."""

    settings: "Settings"

    @property
    def tuf_dir(self) -> Path:
        """Where signed documents are in force."""
        return self.settings.tuf_dir

    @property
    def offline_keys(self) -> Path:
        """Where the offline keys of a single operator lie."""
        return self.settings.keys_dir / "offline"

    def online_keys(self) -> "KeyStore":
        """Open the signer's keys, which needs its user or root."""
        from controller.trust.custody.keys import ONLINE, KeyStore

        return KeyStore(self.settings.signer_state_dir / "keys", ONLINE)

    def signer(self) -> "OnlineSigner":
        """Return the signer: the process that is configured or runs here, else its folder opened from this process."""
        from controller.trust.errors import SignerUnavailable
        from controller.trust.signer.client import RemoteSigner
        from controller.wiring import open_signer

        running = self.settings.state_dir / "signer.sock"
        if not self.settings.signer_socket and running.exists():
            signer = RemoteSigner(running)
            with suppress(SignerUnavailable):
                signer.journal_head()
                return signer
        return open_signer(self.settings)

    def trust(self) -> "Trust":
        """Return the trust in force; CommandFailed where there is none yet."""
        from controller.trust.ceremonies.offline_documents import read_in_force

        present = read_in_force(self.tuf_dir)
        if present is None:
            raise CommandFailed(
                f"{self.tuf_dir} has no trust yet; begin with `edgefleet key ceremony start --plan FILE`, or start the "
                "controller once with EDGEFLEET_SINGLE_OPERATOR=true",
                ExitCode.CONFLICT,
            )
        return present.trust

    def local_keys(self) -> "KeyStore | None":
        """Open the offline keys of a single operator; None where they are with people."""
        from controller.trust.custody.keys import OFFLINE, KeyStore

        if not self.settings.is_single_operator or not (self.offline_keys / "image-root.pem").exists():
            return None
        return KeyStore(self.offline_keys, OFFLINE)

    def local_signers(self) -> "Iterator[Signer]":
        """Yield the offline keys of a single operator, those that shall follow included."""
        from controller.trust.custody.keys import OFFLINE

        store = self.local_keys()
        for name in sorted(OFFLINE) if store else ():
            if store is not None:
                yield store.signer(name)
                following = store.pending(name)
                if following is not None:
                    yield following

    def promote_local_keys(self) -> None:
        """Put offline keys of a single operator in their places once the documents in force name them."""
        from controller.trust.custody.keys import OFFLINE, KeyName

        store = self.local_keys()
        if store is None:
            return
        trust = self.trust()
        named = {key.keyid for role in trust.roles() for key in trust.role(role).keys}
        for name in sorted(OFFLINE):
            following = store.pending(name)
            if following is None:
                continue
            # A release key that no model has yet is named nowhere.
            free = name is KeyName.RELEASE and store.signer(name).public_key.keyid not in named
            if free or following.public_key.keyid in named:
                store.promote(name)

    def record(self, finished: "Finished") -> None:
        """Write a ceremony into the audit log, where there is a database already."""
        from controller.trust.custody.keys import KeyName

        documents = {
            str(name): (version, finished.digests[name], finished.signed_by[name])
            for name, version in finished.versions.items()
        }
        self._record(finished.summary, documents, KeyName.DIRECTOR in finished.rotated)

    def record_reissue(self) -> None:
        """Write into the audit log that all was signed anew, and have every assignment signed anew as well.

        What a restored database holds are assignments that devices have seen newer ones of.
        """
        self._record("every online role was signed anew", {}, outdates_assignments=True)

    def _record(
        self, summary: str, documents: "Mapping[str, tuple[int, str, tuple[str, ...]]]", outdates_assignments: bool
    ) -> None:
        from controller.store.database import Database, open_engine, sqlite_path
        from controller.use_cases.record_ceremony import record_ceremony

        url = self.settings.database_url
        path = sqlite_path(url)
        if path is not None and not path.exists():
            return
        database = Database(open_engine(url))
        try:
            record_ceremony(
                database, summary, documents, now=now(), has_new_director=outdates_assignments, actor=person()
            )
        except Exception as error:  # noqa: BLE001 -- it is installed; the log must not undo that
            told = f"the audit log has no entry of this: {error}; type the same again when the database answers"
            notices().print(told, style="yellow", soft_wrap=True)


def open_place(state_dir: Path | None) -> Place:
    """Return the installation that the settings name, or this folder."""
    if state_dir is not None:
        os.environ["EDGEFLEET_STATE_DIR"] = str(state_dir)
    return Place(read_settings())


def now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


def person() -> str:
    """Name who runs the command, for history: the account of this machine."""
    return f"{getpass.getuser()}@host"


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what trust refuses into one line and an exit code."""
    from controller.domain.errors import Conflict, EdgefleetError, InvalidInput

    try:
        yield
    except EdgefleetError as error:
        codes = ((Conflict, ExitCode.CONFLICT), (InvalidInput, ExitCode.INVALID))
        code = next((code for kind, code in codes if isinstance(error, kind)), ExitCode.ERROR)
        raise CommandFailed(f"{error.code}: {error.detail}", code) from error


def open_key(uri: str) -> "Signer":
    """Open the signer behind a URI or a key file, asking for a passphrase where one is needed and none configured."""
    from controller.trust.custody.key_uris import ENCRYPTED_FILE, configured_passphrase, file_uri, open_signer

    uri = file_uri(Path(uri)) if Path(uri).is_file() else uri
    needs = uri.partition(":")[0] in (ENCRYPTED_FILE, "hsm")
    passphrase = configured_passphrase()
    if needs and passphrase is None and sys.stdin.isatty():
        passphrase = getpass.getpass(f"passphrase of {uri}: ")
    return open_signer(uri, passphrase)


def new_passphrase() -> str:
    """Return the passphrase for a new key: the configured one, else asked for twice."""
    from controller.trust.custody.key_uris import PASSPHRASE_CHARACTERS_MIN, configured_passphrase

    found = configured_passphrase()
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise CommandFailed(
            "a key needs a passphrase: set EDGEFLEET_KEY_PASSPHRASE_FILE, or say --no-passphrase", ExitCode.USAGE
        )
    first = getpass.getpass(f"passphrase, {PASSPHRASE_CHARACTERS_MIN} characters at least: ")
    if len(first) < PASSPHRASE_CHARACTERS_MIN:
        raise CommandFailed(f"the passphrase is too short; {PASSPHRASE_CHARACTERS_MIN} characters at least")
    if getpass.getpass("once more: ") != first:
        raise CommandFailed("the two differ; nothing was made")
    return first
