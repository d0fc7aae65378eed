#!/bin/sh
# Run the native engine under the compilers' sanitizers.
#   tools/sanitize.sh PYTHON address|thread [PYTEST ARGUMENT]...
#   tools/sanitize.sh PYTHON fuzz SECONDS [SEED]
# address: AddressSanitizer and UndefinedBehaviorSanitizer. The extension is built
# apart, and the tests take that one (tests/sanitized.py). Python itself and OpenSSL
# are not instrumented, so what is found is ours.
# fuzz: each of tests/native/fuzz_*.c for its share of SECONDS, with clang's libFuzzer
# and those two sanitizers. What fails is in a file, which is named.
set -eu

python=$1
what=$2
shift 2

compiler=${CC:-gcc}
folder=build/sanitize/$what
mkdir -p "$folder"
case $what in
fuzz)
    exec "$(dirname "$0")/fuzz.sh" "$python" "$folder" "$@"
    ;;
address)
    flags="-fsanitize=address,undefined -fno-sanitize-recover=all"
    libraries="libasan.so libubsan.so"
    ;;
thread)
    flags=-fsanitize=thread
    libraries=libtsan.so
    ;;
*)
    echo "neither address, thread nor fuzz: $what" >&2
    exit 2
    ;;
esac

headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
# shellcheck disable=SC2086  # lists of flags
$compiler -std=c11 -O1 -g -fno-omit-frame-pointer -Wall -Wextra -Werror $flags -fPIC \
    -shared -pthread "-I$headers" wsockets/bridge/native/*.c -o "$folder/_native.abi3.so"

preload=
for library in $libraries; do
    preload="$preload $($compiler -print-file-name=$library)"
done
log=$folder/log
rm -f "$log".*
status=0
# Python's own leaks are not ours to find; tests/leaks.py looks for ours.
env LD_PRELOAD="$preload" WSOCKETS_NATIVE_MODULE="$folder/_native.abi3.so" \
    ASAN_OPTIONS="detect_leaks=0:log_path=$log" UBSAN_OPTIONS="log_path=$log" \
    TSAN_OPTIONS="log_path=$log" PYTHONMALLOC=malloc \
    "$python" -m pytest -p tests.sanitized -q "$@" || status=$?
for found in "$log".*; do
    [ -e "$found" ] || continue
    cat "$found"
    status=1
done
exit $status
