#!/bin/sh
# Install the Debian packages of the peers that the tests require (tests/peers.toml),
# those only that this machine lacks; with sudo where we are not root.
set -eu

python=$("$(dirname "$0")/python.sh")
missing=$("$python" tests/peers.py missing | tr '\n' ' ')
if [ -z "$missing" ]; then
    exit
fi
echo "== the tests talk to real programs; these Debian packages are missing: $missing"
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
