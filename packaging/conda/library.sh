#!/bin/sh
# Builds and installs one of the C libraries, for recipe.yaml.
set -eu
./configure --quiet --disable-static --prefix="$PREFIX" --libdir="$PREFIX/lib"
make -s -j"$CPU_COUNT"
make -s install
