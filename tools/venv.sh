#!/bin/sh
# Make a virtual environment and install the project into it, without root.
#   tools/venv.sh FOLDER EXTRA [PYTHON]
# A folder that already holds a working environment is kept. Where Python came
# without ensurepip (Debian's python3 without python3-venv), pip is taken from
# virtualenv, from an installed pip, or from Debian's package of pip's wheel.
set -eu

venv=$1
extra=$2
here=$(dirname "$0")
python=${3:-$("$here/python.sh")}

say() { echo "== $*"; }

works() { "$venv/bin/python" -m pip --version >/dev/null 2>&1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

with_ensurepip() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null && "$python" -m venv "$venv"
}

with_virtualenv() {
    "$python" -m virtualenv --version >/dev/null 2>&1 &&
        "$python" -m virtualenv -q "$venv"
}

with_pip() {
    "$python" -m pip --version >/dev/null 2>&1 || return 1
    say "Python has no ensurepip: virtualenv is fetched with its pip"
    "$python" -m pip install -qq --target "$scratch/virtualenv" virtualenv &&
        PYTHONPATH="$scratch/virtualenv" "$python" -m virtualenv -q "$venv"
}

with_debians_wheel() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    say "Python has no pip: Debian's package of its wheel is fetched, not installed"
    (cd "$scratch" && apt-get -q download python3-pip-whl && dpkg-deb -x ./*.deb .) ||
        return 1
    "$python" -m venv --without-pip "$venv" &&
        "$venv/bin/python" "$(echo "$scratch"/usr/share/python-wheels/pip-*.whl)/pip" \
            install -qq pip
}

if ! works; then
    say "a new environment in $venv, with $python ($("$python" -V))"
    [ ! -e "$venv/pyvenv.cfg" ] || rm -rf "$venv" # one that was left half made
    with_ensurepip || with_virtualenv || with_pip || with_debians_wheel || :
    if ! works; then
        echo "No environment could be made with $python: it has neither ensurepip" \
            "nor pip. On Debian: apt-get install python3-venv" >&2
        exit 1
    fi
fi
say "installing wsockets and what its extra '$extra' needs into $venv"
# setuptools warns of every folder that is installed as it stands.
PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install -qq \
    --disable-pip-version-check -e ".[$extra]"
