"""Becoming another account: the signer's own, so that whoever takes over the controller cannot read its folder."""

import ctypes
import os
import pwd
import resource
from pathlib import Path

from controller.trust.errors import KeyStoreError

_PR_SET_DUMPABLE = 4


def account_named(name: str) -> pwd.struct_passwd:
    """Return the account; KeyStoreError when there is none or this process may not become it."""
    try:
        account = pwd.getpwnam(name)
    except KeyError as error:
        raise KeyStoreError(f"there is no account {name} on this machine; make it, or choose another") from error
    if os.geteuid() not in (0, account.pw_uid):
        raise KeyStoreError(f"only root can start the signer as {name}; this is uid {os.geteuid()}")
    return account


def give_folder(folder: Path, account: pwd.struct_passwd) -> None:
    """Make a folder with everything below it the account's, readable by nobody else; root only."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    folder.chmod(0o700)


def become(account: pwd.struct_passwd) -> None:
    """Drop to the account for good, with its groups."""
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def keep_memory_private() -> None:
    """Leave no core file, and let no process of the same account look into this one's memory (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
