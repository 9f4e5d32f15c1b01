#!/usr/bin/env bash
# Shows that a 64-bit ARM machine makes the same bytes as this one: csrc/fuzz/other_machine.sh
# Needs Debian's packages g++-aarch64-linux-gnu and qemu-user.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=build/digest
sources=$(ls csrc/*.cpp csrc/simd/*.cpp csrc/engines/*.cpp csrc/fuzz/digest.cpp | grep -v bindings)
export flags="-std=c++17 -O2 -ffp-contract=off -fno-fast-math -Icsrc"
export avx2="-mavx2 -mbmi2 -mfma"
export avx512="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512cd -mavx512vbmi -mavx512vbmi2 -mavx512ifma $avx2"

build() {   # build COMPILER FOLDER SOURCES...
    local compiler=$1 folder=$2
    shift 2
    mkdir -p "$folder"
    export compiler folder
    printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c '
        case {} in *_avx2.cpp) special=$avx2 ;; *_avx512.cpp) special=$avx512 ;; *) special= ;; esac
        $compiler $flags $special -c {} -o "$folder/$(basename {} .cpp).o"'
    "$compiler" "$folder"/*.o -o "$folder/digest" -lpthread -static
}

if [ "$(uname -m)" = x86_64 ]; then here=$sources; else here=$(echo "$sources" | grep -v _avx); fi
rm -rf "$out"
build g++ "$out/here" $here
build aarch64-linux-gnu-g++ "$out/arm" $(echo "$sources" | grep -v _avx)
qemu-aarch64 "$out/arm/digest" > "$out/arm.txt"
for kernels in portable avx2 avx512; do
    CBENCH_SIMD=$kernels "$out/here/digest" > "$out/here-$kernels.txt"
    diff "$out/here-$kernels.txt" "$out/arm.txt"
done
echo "$(wc -l < "$out/arm.txt") streams: the same bytes here and on aarch64"
