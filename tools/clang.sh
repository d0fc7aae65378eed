#!/bin/sh
# Print a clang that has libFuzzer: $CLANG where set, else the first that is found.
set -eu

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo 'int LLVMFuzzerTestOneInput(const char *data, long size) { return !data && size; }' \
    >"$scratch/nothing.c"

for name in ${CLANG:-clang clang-20 clang-19 clang-18 clang-17 clang-16 clang-15 clang-14}; do
    if "$name" -fsanitize=fuzzer,address,undefined "$scratch/nothing.c" \
        -o "$scratch/nothing" 2>/dev/null; then
        echo "$name"
        exit
    fi
done
echo "No clang with libFuzzer was found${CLANG:+ in CLANG=$CLANG}. On Debian:" \
    "apt-get install clang libclang-rt-dev" >&2
exit 1
