# shellcheck shell=bash
# What the tasks of ./dev share: steps, system packages, the environment with the extension. Paths are
# relative to the checkout.
#
# Environments are made by Python's own venv, and by pip from the dependency groups of pyproject.toml: uv
# would not go by the machine's configuration of pip (index, certificates), and nox keeps an environment
# for each task, so that each would build the extension once more.
set -euo pipefail

unset PYTHONDONTWRITEBYTECODE # the next run finds compiled what this one has imported
PYTHON=${PYTHON:-python3}
venv=$(realpath --canonicalize-missing --no-symlinks "${VENV:-.venv}")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/libnetfilterqueue
log=build/dev-${task:?is set by ./dev}.log

say() {
    printf '* %s\n' "$*"
}

die() {
    printf './dev: %s\n' "$*" >&2
    exit 1
}

# Shows on a terminal that a step is alive: for how long, and the last line of its output.
tick() {
    local seconds=0
    while sleep 1 && kill -0 $$; do
        seconds=$((seconds + 1))
        printf '\r\033[K%5d s  %s' "$seconds" "$(tail -n 1 "$log" | cut -c 1-68)"
    done
}

# step TITLE COMMAND...: runs the command, whose output is shown only when it fails.
step() {
    local ticker='' status=0
    say "$1"
    shift
    mkdir -p build
    : >"$log"
    # Of the ticker a sleep may be left, which must not hold the lock.
    [ ! -t 1 ] || {
        tick 2>/dev/null 9>&- &
        ticker=$!
    }
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ -z "$ticker" ] || {
        kill "$ticker"
        wait "$ticker" 2>/dev/null || : # always says that it was killed
        printf '\r\033[K'
    }
    [ "$status" = 0 ] || cat "$log" >&2
    return "$status"
}

# beside TITLE COMMAND...: a step that runs beside others, as many at a time as there are processors.
declare -A titles
beside() {
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
        wait -n || :
    done
    trap 'trap - TERM; kill 0' INT TERM # what runs in the background ignores Ctrl-C
    local log=build/dev-$task-${1//[ \/]/-}.log
    { step "$@" | cat; } & # a pipe: none has a line of the terminal of its own, to tick on
    titles[$!]=$1
}

# joined TITLE: waits for the steps beside each other. If some have failed, the task fails, by that title.
joined() {
    local failed='' job
    for job in "${!titles[@]}"; do
        wait "$job" || failed+=", ${titles[$job]}"
    done
    [ -z "$failed" ] || die "$1: ${failed#, }"
}

# Two at a time would break each other's environment.
locked() {
    mkdir -p build
    {
        flock -n 9 || {
            say 'waiting for another ./dev in this checkout'
            flock 9
        }
        "$@"
    } 9>build/lock
}

# once NAME STATE COMMAND...: runs the command, unless it has succeeded in this state of things last.
once() {
    local stamp=$venv/$1.stamp state=$2
    shift 2
    [ "$(cat "$stamp" 2>/dev/null)" != "$state" ] || return 0
    "$@" && printf '%s\n' "$state" >"$stamp"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"
}

# Installs those of the named packages that are missing.
install_system_packages() {
    local installed missing
    # Distributions without dpkg have other names; meson.build tells them for what is missing.
    command -v dpkg-query >/dev/null || return 0
    # It fails for a package that it has never seen: that one is missing too.
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
        sed -n 's/ installed$//p') || :
    mapfile -t missing < <(printf '%s\n' "$@" | grep -vxF "$installed")
    [ "${#missing[@]}" != 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            die "system packages are missing, and only root or sudo can install them: ${missing[*]}"
        say "system packages are missing, to be installed by sudo: ${missing[*]}"
        sudo true # asks for the password here, before anything covers the question
    fi
    step 'reading the lists of system packages' apt update
    step "installing system packages: ${missing[*]}" \
        apt install -y --no-install-recommends "${missing[@]}"
}

# With what its sanitizers and libFuzzer need.
install_clang() {
    local version
    install_system_packages clang
    version=$(clang -dumpversion)
    install_system_packages "libclang-rt-${version%%.*}-dev"
}

# Older ones of pip know no dependency groups.
make_venv() {
    step "making $venv with $PYTHON" "$PYTHON" -m venv --clear "$venv" &&
        step 'updating pip' "$venv/bin/python" -m pip install --upgrade 'pip>=25.1'
}

# Installs dependency groups of pyproject.toml. An older version that is built is better than a newer
# one that needs other compilers.
install_groups() {
    local group
    for group; do
        once "group-$group" "$(sha256sum pyproject.toml)" step "installing Python packages: $group" \
            "$venv/bin/python" -m pip install --prefer-binary --group "$group" || return
    done
}

make_environment() {
    local facts identity parts
    command -v "$PYTHON" >/dev/null ||
        die "there is no '$PYTHON': install Python 3.11 or newer, or name it by PYTHON=..."
    facts=$("$PYTHON" tools/interpreter.py)
    { read -r identity && mapfile -t parts; } <<<"$facts"
    install_system_packages gcc libc6-dev pkg-config \
        libnetfilter-queue-dev libnfnetlink-dev libmnl-dev iptables iproute2 "${parts[@]}"
    once venv "$PWD $identity" make_venv
    install_groups build "$@"
}

# Prepares all but the extension, and puts it first in PATH. The arguments are dependency groups.
environment() {
    locked make_environment "$@"
    PATH=$venv/bin:$PATH
}

# All that the tests need but the extension. What needs the GIL can't be had for Pythons without it:
# gevent, uvloop, and the other bindings, whose calls the documentation shows.
tests_environment() {
    environment
    # systemd-analyze judges the units that pages show, nft their rules; a source distribution is made by
    # git; redis-tools has the server of redis, without a service that would be started. fish and zsh
    # complete the command line, beside bash, and man reads its page.
    install_system_packages systemd nftables git redis-tools fish zsh man-db
    if python -c 'import sys, sysconfig; sys.exit(not sysconfig.get_config_var("Py_GIL_DISABLED"))'; then
        locked install_groups test-free-threaded
    else
        locked install_groups test compared
    fi
}

# Finds Prometheus and its node exporter, or unpacks them, which read what `metrics` prints. They are not
# installed: they are 100 MB, and their packages start services. What was unpacked once is kept.
find_prometheus() {
    local directory=$cache/prometheus
    ! command -v prometheus >/dev/null || ! command -v prometheus-node-exporter >/dev/null || return 0
    command -v dpkg-deb >/dev/null || return 0 # the tests that need them are left out
    [ -d "$directory" ] || {
        step 'reading the lists of system packages' apt update
        step "unpacking Prometheus in $directory" unpack "$directory" prometheus prometheus-node-exporter
    }
    PATH=$PATH:$directory/usr/bin
}

# unpack DIRECTORY PACKAGE...: unpacks system packages into the directory, which then has all of them or
# is not there.
unpack() {
    local work
    mkdir -p "$(dirname "$1")"
    work=$(mktemp -d "$1.XXXXXX")
    (cd "$work" && apt-get -q download "${@:2}") || return
    for package in "$work"/*.deb; do
        dpkg-deb --extract "$package" "$work/root" || return
    done
    mv -T "$work/root" "$1" || [ -d "$1" ] # somebody else was faster
    rm -rf "$work"
}

# Builds and installs the extension. Unlike a user's build this one has debug information and checks its
# assertions. The arguments are further options for pip.
extension() {
    local state
    state=$(
        printf '%s\n' "${CC:-}" "$@"
        find meson.* pyproject.toml ext libnetfilterqueue -type f ! -name '*.pyc' \
            -exec sha256sum {} + | sort
    )
    locked once extension "$state" step 'building and installing the extension' \
        python -m pip install --no-build-isolation --no-deps -Cbuild-dir="$venv/ext" \
        -Csetup-args=-Dbuildtype=debugoptimized -Csetup-args=-Db_ndebug=false "$@" .
}

# free_threaded NAME [OPTION...]: builds a Python without the GIL, with the options for its configure
# script. Sets `directory`, where it is. What was built once is kept.
free_threaded() {
    directory=$cache/pythons/$1
    shift
    [ ! -d "$directory" ] || return 0
    install_system_packages gcc libc6-dev make xz-utils libffi-dev libssl-dev zlib1g-dev
    step "building a free-threaded Python in $directory" \
        tests/pythons/build-free-threaded "$directory" "$@"
}

# make_tree NAME SUITE PACKAGES: unpacks Debian of the suite with those packages. What was made once is
# kept. Sets `tree`, where it is.
make_tree() {
    tree=$cache/trees/$1
    [ -d "$tree" ] || as_root tests/pythons/make-tree "$2" "$tree" "$3"
}

# in_tree TREE COMMAND [ARGUMENT...]: runs the command in the tree, as in a machine of its own.
in_tree() {
    local place=$1
    shift
    as_root tests/pythons/in-tree "$place" env -i HOME=/root LANG=C.UTF-8 \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}

# in_copy TREE COMMAND [ARGUMENT...]: runs the command in a copy of the tree, which is thrown away.
in_copy() {
    local fresh status=0
    fresh=$(mktemp -d)
    as_root cp -a --reflink=auto "$1/." "$fresh" && in_tree "$fresh" "${@:2}" || status=$?
    as_root rm -rf "$fresh"
    return "$status"
}
