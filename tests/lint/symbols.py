# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file of the extension uses which, by the symbols of its objects; no cycle is allowed.

Each symbol that crosses files has to carry its file's name, and each file may use those of its own
layer and of those below. `symbols.py DIRECTORY` reads the objects under a build directory.
"""

import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

LAYERS = ("wire", "support", "engine", "types")
OBJECT = re.compile(rf"ext_({'|'.join(LAYERS)})_(\w+)\.c\.o")


def symbols(path: Path) -> tuple[set[str], set[str]]:
    """What an object defines for others, and what it uses of others."""
    done = subprocess.run(
        ["nm", "--format=posix", path], capture_output=True, check=True, text=True
    )
    defined: set[str] = set()
    used: set[str] = set()
    for line in done.stdout.splitlines():
        name, kind = line.split()[:2]
        if name.startswith("lnfq_"):
            (used if kind == "U" else defined if kind.isupper() else set()).add(name)
    return defined, used


def main(directory: str) -> str | None:
    """What is wrong, or None."""
    found = {}
    for path in Path(directory).rglob("*.c.o"):
        if match := OBJECT.fullmatch(path.name):
            found[match[1], match[2]] = symbols(path)
    if not found:
        return f"there are no objects in {directory}"
    owners = {name: file for file, (defined, _) in found.items() for name in defined}
    uses = {file: {owners[name] for name in used} for file, (_, used) in found.items()}
    wrong = [
        f"{layer}/{file}.c: the name of {name} is not the file's"
        for name, (layer, file) in sorted(owners.items())
        if not name.startswith(f"lnfq_{file}_") and any(name in used for _, used in found.values())
    ]
    wrong += [
        f"{layer}/{file}.c uses {other}/{above}.c, of a layer above"
        for (layer, file), others in sorted(uses.items())
        for other, above in sorted(others)
        if LAYERS.index(other) > LAYERS.index(layer)
    ]
    try:
        list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        wrong.append("a cycle: " + " < ".join("/".join(file) + ".c" for file in error.args[1]))
    return "\n".join(wrong) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
