#!/bin/sh
# Fuzz the native engine with libFuzzer: see tools/sanitize.sh.
#   tools/fuzz.sh PYTHON FOLDER SECONDS [SEED]
# Builds the fuzzers in FOLDER and runs one after the other from fresh seeds
# (tests/native/seeds.py). A run with the same SEED goes the same way for as long as
# it lasts, the address space not being random.
set -eu

python=$1
folder=$2
seconds=$3
seed=${4:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}

clang=$("$(dirname "$0")/clang.sh")
native=wsockets/bridge/native
tests=tests/native
session="$native/flow.c $native/session.c $native/framing.c $native/segments.c
    $native/buffers.c $native/splice.c $native/tls.c"

fixed=
if setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed="setarch $(uname -m) -R"
fi

build() {
    name=$1
    shift
    $clang -std=c11 -O1 -g -Wall -Wextra -Werror -fno-sanitize-recover=all \
        -fsanitize=fuzzer,address,undefined "$@" -o "$folder/fuzz_$name"
}

run() {
    echo "== fuzz_$1 for $share s, seed $seed"
    find "$folder/seeds/$1" -type f | sort | paste -sd, >"$folder/seeds/$1.list"
    if $fixed "$folder/fuzz_$1" -seed="$seed" -max_total_time="$share" -max_len=2048 -len_control=0 \
        -timeout=60 -artifact_prefix="$folder/$1-" -seed_inputs="@$folder/seeds/$1.list" \
        >"$folder/$1.log" 2>&1; then
        sed -n 's/^Done/Done:/p' "$folder/$1.log"
        return
    fi
    grep -v '^#[0-9]' "$folder/$1.log" >&2 || :
    found=$(sed -n 's/^.*Test unit written to //p' "$folder/$1.log")
    echo "fuzz_$1 has failed with seed $seed. This repeats it:" >&2
    echo "    $folder/fuzz_$1 $found" >&2
    exit 1
}

rm -rf "$folder/seeds"
"$python" $tests/seeds.py "$folder/seeds"
build framing $tests/fuzz_framing.c $native/framing.c
build segments $tests/fuzz_segments.c $native/segments.c
# shellcheck disable=SC2086  # a list of files
build flow $tests/fuzz_flow.c $tests/scripted.c $session
# The library is all that is needed of OpenSSL, not its headers.
# shellcheck disable=SC2086
build tls $tests/fuzz_tls.c $tests/scripted.c $session -l:libssl.so.3 -l:libcrypto.so.3
share=$(((seconds + 3) / 4))
run framing
run segments
run flow
run tls
