#!/usr/bin/env bash
# Fuzz the decoders with AddressSanitizer and UBSan: csrc/fuzz/run.sh SECONDS [KERNELS [TARGET]]
# SECONDS of CPU time. KERNELS: portable, avx2, avx512, or "" for the best. TARGET: one mode of modes.hpp (static, ...);
# "each" for all of them, one after the other, SECONDS each; else all of them together.
# With clang: libFuzzer, from the streams in csrc/fuzz/corpus; what it finds beyond goes to build/fuzz/corpus. Otherwise g++
# and a loop of our own that damages valid streams.
set -euo pipefail
export CBENCH_FUZZ_SECONDS=${1:-30}
export CBENCH_SIMD=${2:-}
cd "$(dirname "$0")/../.."
out=build/fuzz
mkdir -p "$out"
[ -n "$CBENCH_SIMD" ] || unset CBENCH_SIMD

if clang++ --version >/dev/null 2>&1 && [ -z "${CBENCH_FUZZ_LOOP:-}" ]; then
    compiler="clang++ -fsanitize=fuzzer-no-link,address,undefined" main=libfuzzer link="-fsanitize=fuzzer,address,undefined"
else
    compiler="g++ -fsanitize=address,undefined" main=loop link="-fsanitize=address,undefined"
fi
flags="-std=c++17 -O1 -g -fno-sanitize-recover=all -ffp-contract=off -DCBENCH_FUZZ -Icsrc"
avx512="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512cd -mavx512vbmi -mavx512vbmi2 -mavx512ifma -mavx2 -mbmi2"
compile() {   # one source file -> one object, with the instruction set that its name asks for
    local special=""
    case $1 in
        *_avx2.cpp) special="-mavx2 -mbmi2 -mfma" ;;
        *_avx512.cpp) special=$avx512 ;;
    esac
    $compiler $flags $special -c "$1" -o "$out/$(basename "$1" .cpp)-$main.o"
}
build() {
    local sources
    sources=$(ls csrc/*.cpp csrc/simd/*.cpp csrc/engines/*.cpp csrc/fuzz/$main.cpp | grep -v bindings)
    [ "$(uname -m)" = x86_64 ] || sources=$(echo "$sources" | grep -v _avx)
    echo "$sources" | xargs -P "$(nproc)" -I{} bash -c 'compile {}'
    ${compiler%% *} $link $(for s in $sources; do echo "$out/$(basename "$s" .cpp)-$main.o"; done) -o "$out/$main" -lpthread
}
export -f compile
export compiler flags avx512 out main
if [ ! -e "$out/$main" ] || [ -n "$(find csrc -newer "$out/$main" \( -name '*pp' -o -name run.sh \))" ]; then build; fi

fuzz() {   # one target, or "" for all together
    export CBENCH_FUZZ_TARGET=$1
    if [ "$main" = loop ]; then
        "$out/loop" "$CBENCH_FUZZ_SECONDS" "${CBENCH_FUZZ_SEED:-$(date +%s)}"
        return
    fi
    mkdir -p "$out/corpus/${1:-all}"
    "$out/libfuzzer" -max_len=4096 -timeout=60 -artifact_prefix="$out/" -print_funcs=0 -verbosity=0 "$out/corpus/${1:-all}" csrc/fuzz/corpus
}
if [ "${3:-}" = each ]; then
    for target in $(sed -n '/kNames/,/;/p' csrc/fuzz/modes.hpp | grep -o '"[a-z]*"' | tr -d '"'); do fuzz "$target"; done
else
    fuzz "${3:-}"
fi
