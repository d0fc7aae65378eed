#!/bin/sh
# Print a Python that the project runs on: CPython 3.11 or newer.
#   tools/python.sh            $PYTHON where set, else the first that is found
#   tools/python.sh others V   one path a line: those of other versions than V (3.11)
set -eu

version() {
    "$1" -c 'import sys
if sys.version_info >= (3, 11): print("%d.%d" % sys.version_info[:2])' 2>/dev/null || :
}

candidates() {
    for name in python3 python3.11 python3.12 python3.13; do
        command -v "$name" || :
    done
    for path in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[1-9]*/bin/python3; do
        [ ! -x "$path" ] || echo "$path"
    done
}

if [ "${1:-}" = others ]; then
    seen=" $2 "
    candidates | while read -r python; do
        found=$(version "$python")
        case "$found: $seen " in
        3.*" ${found} "*) continue ;;
        3.11:* | 3.12:* | 3.13:*) ;;
        *) continue ;;
        esac
        seen="$seen $found "
        echo "$python"
    done
    exit
fi

if [ -n "${PYTHON:-}" ]; then
    if [ -z "$(version "$PYTHON")" ]; then
        echo "PYTHON=$PYTHON is not a Python 3.11 or newer" >&2
        exit 1
    fi
    command -v "$PYTHON"
    exit
fi
for python in $(candidates); do
    if [ -n "$(version "$python")" ]; then
        echo "$python"
        exit
    fi
done
echo "No Python 3.11 or newer was found on PATH. On Debian 12: apt-get install" \
    "python3 python3-venv. Elsewhere: make PYTHON=/path/to/python3.11 ..." >&2
exit 1
