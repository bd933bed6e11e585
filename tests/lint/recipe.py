# SPDX-License-Identifier: GPL-2.0-or-later
"""Renders the recipe of the conda packages, and compares its C libraries with those of the wheels.

To render it takes what rattler-build does first of all, so a recipe that is wrong fails here.
"""

import re
import sys
from pathlib import Path

from rattler_build import Stage0Recipe, VariantConfig

PACKAGING = Path(__file__).parent.parent.parent / "packaging"
VARIANT = {
    "c_compiler": ["gcc"],
    "c_stdlib": ["sysroot"],
    "c_stdlib_version": ["2.28"],
    "python": ["3.13.*"],
}


def wheels_releases() -> set[tuple[str, str, str]]:
    """Name, version and checksum of each library that goes into wheels."""
    text = (PACKAGING / "build-libraries").read_text()
    found = re.findall(r"^(?:releases=')?(\w+) ([\d.]+) ([0-9a-f]{64})'?$", text, re.MULTILINE)
    return {(name, version, checksum) for name, version, checksum in found}


def recipe_releases() -> set[tuple[str, str, str]]:
    """Those of the recipe's packages that have a checksum."""
    recipe = Stage0Recipe.from_file(PACKAGING / "conda" / "recipe.yaml")
    packages = [variant.recipe.to_dict() for variant in recipe.render(VariantConfig(VARIANT))]
    return {
        (package["package"]["name"], package["package"]["version"], source["sha256"])
        for package in packages
        for source in package["source"]
        if "sha256" in source
    }


if __name__ == "__main__":
    wheels, recipe = wheels_releases(), recipe_releases()
    if wheels != recipe or len(wheels) != 3:
        sys.exit(f"build-libraries and recipe.yaml differ: {sorted(wheels ^ recipe)}")
