# Packages of any of Debian's suites, for scripts that source this: apt's lists and cache are those of a directory,
# and nothing is installed.
#
# shellcheck shell=bash

# debian DIRECTORY "SUITE-URL SUITE"...: from where packages come; sets `apt_options`.
debian() {
    local directory=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg suite
    shift
    mkdir -p "$directory/lists/partial" "$directory/archives/partial"
    for suite in "$@"; do
        echo "deb [signed-by=$keyring] http://deb.debian.org/$suite main"
    done > "$directory/sources.list"
    apt_options=(
        -o "Dir::Etc::SourceList=$directory/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$directory/lists" -o "Dir::Cache=$directory" -o APT::Sandbox::User=root
    )
    apt-get "${apt_options[@]}" update -q
}

# unpack PACKAGE[=VERSION] DIRECTORY: downloads it and unpacks its files.
unpack() {
    local work
    work=$(mktemp -d)
    mkdir -p "$2"
    (cd "$work" && apt-get "${apt_options[@]}" download -q "$1")
    dpkg-deb -x "$work"/*.deb "$2"
    rm -rf "$work"
}
