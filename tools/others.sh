#!/bin/sh
# Run the tests on the other Pythons of this machine.
#   tools/others.sh PYTHON WORKERS     PYTHON is the one that is tested anyway
set -eu

here=$(dirname "$0")
tested=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
others=$("$here/python.sh" others "$tested")
if [ -z "$others" ]; then
    echo "no other Python than $tested between 3.11 and 3.13 was found"
fi
for python in $others; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$here/venv.sh" ".venv-$version" dev "$python"
    echo "== Python $version"
    ".venv-$version/bin/python" -m pytest -n "$2" --dist loadgroup -q
done
