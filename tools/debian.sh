#!/bin/sh
# Install the Debian packages of the peers that the tests require (tests/peers.toml)
# and of what the native engine is built and fuzzed with, those only that this machine
# lacks; with sudo where we are not root.
set -eu

here=$(dirname "$0")
python=$("$here/python.sh")
missing=$("$python" tests/peers.py missing | tr '\n' ' ')
# What the native engine is built with.
command -v "${CC:-gcc}" >/dev/null || missing="$missing gcc libc6-dev"
if ! "$python" -c 'import sysconfig; open(sysconfig.get_path("include") + "/Python.h")' \
    2>/dev/null; then
    missing="$missing python3-dev"
fi
# … and fuzzed with.
"$here/clang.sh" >/dev/null 2>&1 || missing="$missing clang libclang-rt-dev"
if [ -z "$missing" ]; then
    exit
fi
echo "== the tests and the native engine need Debian packages that are missing: $missing"
if ! command -v apt-get >/dev/null; then
    echo "This system has no apt-get: install them in its own way." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    echo "Neither root nor sudo: have them installed with: apt-get install $missing" >&2
    exit 1
fi
echo "== installing them${sudo:+ with sudo}; Debian may start their services"
$sudo apt-get -q update
# shellcheck disable=SC2086  # a list of packages
$sudo env DEBIAN_FRONTEND=noninteractive \
    apt-get -q install -y --no-install-recommends $missing
