# shellcheck shell=bash
# Debian's archive, for scripts that source this: of another suite than this machine's, whose own
# lists of packages stay as they are.

# Prints the mirror that apt goes by.
debian_mirror() {
    local mirror
    # shellcheck disable=SC2016 # apt's own variable
    mirror=$(apt-get indextargets --format '$(SITE)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    [ -n "$mirror" ] || {
        echo 'apt names no mirror of Debian' >&2
        return 1
    }
    printf '%s\n' "$mirror"
}

# use_suite SUITE: from here on apt-get and apt-cache know the suite's packages for x86_64 and its
# sources, and nothing else. They write below the working directory.
use_suite() {
    local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(debian_mirror)
    mkdir -p cache/archives/partial lists/partial
    cat >sources.list <<END
deb [arch=amd64 signed-by=$keyring] $mirror $1 main
deb-src [signed-by=$keyring] $mirror $1 main
END
    cat >apt.conf <<END
Dir::Etc::SourceList "$PWD/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$PWD/lists";
Dir::Cache "$PWD/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User ""; # that one could not write here
END
    export APT_CONFIG=$PWD/apt.conf
    apt-get -q update
}
