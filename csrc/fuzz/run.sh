#!/usr/bin/env bash
# Fuzz the decoders with AddressSanitizer and UBSan: csrc/fuzz/run.sh SECONDS [KERNELS [TARGET]]
# KERNELS: portable, avx2, avx512, or "" for the best. TARGET: one mode of target.hpp (static, indexed, ...), else all.
# With clang: libFuzzer, from the streams in csrc/fuzz/corpus; what it finds beyond goes to build/fuzz/corpus. Otherwise g++
# and a loop of our own that damages valid streams.
set -euo pipefail
seconds=${1:-30}
export CBENCH_SIMD=${2:-}
cd "$(dirname "$0")/../.."
out=build/fuzz
export CBENCH_FUZZ_TARGET=${3:-}
corpus=$out/corpus/${3:-all}
mkdir -p "$corpus"
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
export -f compile
export compiler flags avx512 out main
sources=$(ls csrc/*.cpp csrc/simd/*.cpp csrc/fuzz/$main.cpp | grep -v bindings)
[ "$(uname -m)" = x86_64 ] || sources=$(echo "$sources" | grep -v _avx)
echo "$sources" | xargs -P "$(nproc)" -I{} bash -c 'compile {}'
objects=$(for s in $sources; do echo "$out/$(basename "$s" .cpp)-$main.o"; done)
${compiler%% *} $link $objects -o "$out/$main" -lpthread
if [ "$main" = libfuzzer ]; then
    "$out/$main" -max_total_time="$seconds" -max_len=4096 -print_final_stats=0 -print_funcs=0 -verbosity=0 "$corpus" csrc/fuzz/corpus
else
    "$out/$main" "$seconds" "${CBENCH_FUZZ_SEED:-$(date +%s)}"
fi
