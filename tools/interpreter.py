# SPDX-License-Identifier: GPL-2.0-or-later
"""What an environment depends on of the Python that runs this, on one line.

Each further line is a package of Debian with a part of that Python that is missing.
"""

import importlib.util
import os
import sys
import sysconfig

name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
if sys.version_info < (3, 11):  # noqa: UP036 (it is this that says so)
    sys.exit(f"./dev: {sys.executable} is {name}; 3.11 or newer is needed (PYTHON=... names it)")
abi = sysconfig.get_config_var("SOABI")
print(name, sys.base_prefix, abi, sys.version.replace("\n", " "))
if sys.base_prefix == "/usr":
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        print(f"{name}-dev")
    if importlib.util.find_spec("ensurepip") is None:
        print(f"{name}-venv")
