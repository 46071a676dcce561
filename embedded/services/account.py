"""The account that PostgreSQL runs under. It refuses to run as root, so root hands it to an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# The least that lets the account reach its program and data: nothing; passing through folders that are closed to it
# (a checkout below /root); or, where a container withholds the former, opening any file.
_CAPABILITIES = ("", "+dac_read_search", "+dac_override")


class AccountError(RuntimeError):
    """PostgreSQL cannot be run under an account of this machine. The message is one sentence."""


@dataclass(frozen=True)
class Account:
    """A user of this machine, and the capability that root leaves it ('' for none; None: no change of user)."""

    name: str
    uid: int
    gid: int
    capability: str | None

    def wrap(self, command: list[str], death_signal: str | None = None) -> list[str]:
        """The command that runs `command` under this account."""
        if self.capability is None:
            return command
        setpriv = [_setpriv(), "--reuid", str(self.uid), "--regid", str(self.gid), "--clear-groups"]
        if self.capability:
            only = f"-all,{self.capability}"
            setpriv += [f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}"]
        else:
            setpriv += ["--inh-caps=-all", "--bounding-set=-all"]
        if death_signal:  # a change of user forgets the one that was asked for before
            setpriv += ["--pdeathsig", death_signal]
        return [*setpriv, "--", *command]


def find_account(folder: Path, program: Path) -> Account:
    """The account for a data folder: ourselves, or as root the folder's owner, `postgres` or `nobody`.

    `folder` exists; as root it is given to the account. Raises AccountError.
    """
    if os.geteuid() != 0:
        return Account(
            pwd.getpwuid(os.geteuid()).pw_name if _has_name() else str(os.geteuid()),
            os.geteuid(),
            os.getegid(),
            None,
        )
    user = _user_for(folder)
    _give(folder, user)
    complaint = ""
    for capability in _CAPABILITIES:
        account = Account(user.pw_name, user.pw_uid, user.pw_gid, capability)
        # In the folder and from the folder: initdb and postgres both look at where they stand.
        check = ["sh", "-c", 'cd "$1" && test -w . && "$2" --version', "sh", str(folder), str(program)]
        tried = subprocess.run(account.wrap(check), capture_output=True, text=True, cwd="/", check=False)
        if tried.returncode == 0:
            return account
        complaint = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise AccountError(
        f"PostgreSQL does not run as root, and the user {user.pw_name} cannot reach {folder} or {program} ({complaint}); "
        "put the checkout and ZHIYUN_HOME below a folder that every user may pass through, or run zhiyun as another user."
    )


def _has_name() -> bool:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def _user_for(folder: Path) -> pwd.struct_passwd:
    owner = folder.stat().st_uid
    if owner != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            return pwd.struct_passwd((str(owner), "x", owner, folder.stat().st_gid, "", "/", ""))
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AccountError(
        "PostgreSQL does not run as root, and this machine has neither a user postgres nor a user nobody; "
        "create one of them, or run zhiyun as another user."
    )


def _give(folder: Path, user: pwd.struct_passwd) -> None:
    """Give what root owns in the folder to the account, once: after that its owner says whose it is."""
    if folder.stat().st_uid == user.pw_uid:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _setpriv() -> str:
    found = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if not found:
        raise AccountError(
            "PostgreSQL does not run as root, and the program setpriv (package util-linux) that hands it to another user "
            "is missing; install it, or run zhiyun as another user."
        )
    return found
