# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that have the capabilities which they are given, and no others by being root.

    capabilities.py DIRECTORY PYTHON [ARGUMENT...]

runs a command of this interpreter with no capability but the CAP_NET_ADMIN of its file: a copy of
the interpreter in the directory, over which a file system of its own is mounted, in a mount
namespace of its own (`unshare --mount`), since that of the directory may be mounted nosuid.
"""

import os
import shutil
import struct
import sys
from pathlib import Path

from netns import CAP_NET_ADMIN, run

VFS_CAP_REVISION_2 = 0x02000000
VFS_CAP_FLAGS_EFFECTIVE = 1


def only(*capabilities: str, new: bool = False) -> list[str]:
    """What goes in front of a command that is to have these capabilities only.

    Unless `new`, its files can't give it any other. It works for root of any user namespace: no
    other user is needed, since root has no privileges by itself any more.
    """
    sets = ",".join(("-all", *(f"+{name}" for name in capabilities)))
    words = ["setpriv", "--securebits", "+noroot,+noroot_locked"]
    words += ["--inh-caps", sets, "--ambient-caps", sets]
    return words if new else [*words, "--bounding-set", sets, "--no-new-privs"]


def effective(pid: int) -> int:
    """The capabilities that a process can use, as bits."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines)
    assert fields["CapPrm"] == fields["CapEff"]
    return int(fields["CapEff"], 16)


def copy_interpreter(directory: Path) -> Path:
    """A copy of our virtual environment, whose interpreter is a file with the capability."""
    interpreter = directory / "bin" / "python"
    interpreter.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), interpreter)
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), directory)
    (directory / "lib").symlink_to(Path(sys.prefix, "lib"))
    kind = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE
    permitted = struct.pack("<5I", kind, 1 << CAP_NET_ADMIN, 0, 0, 0)
    os.setxattr(interpreter, "security.capability", permitted)
    return interpreter


if __name__ == "__main__":
    run(f"mount -t tmpfs none {sys.argv[1]}")
    interpreter = copy_interpreter(Path(sys.argv[1]))
    # `env` is there to have none, and so to be given what the next file has.
    command = [*only(new=True), "env", str(interpreter), *sys.argv[3:]]
    os.execvp(command[0], command)
