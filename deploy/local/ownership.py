"""Which user owns PostgreSQL's files when root runs it as somebody else."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def give_folder_to(identity: str | None, folder: Path) -> None:
    """Makes everything in the folder belong to the user that child.py's `identity` is outside: root, or `nobody`.

    An ordinary user already owns what they made.
    """
    if os.geteuid() != 0:
        return
    uid, gid = (0, 0)
    if identity == "nobody":
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
    if folder.stat().st_uid == uid and not any(file.lstat().st_uid != uid for file in folder.iterdir()):
        return
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.chown(os.path.join(parent, name), uid, gid, follow_symlinks=False)
    os.chown(folder, uid, gid)
