#!/bin/bash
# Fuzzing with libFuzzer: fuzz/run.sh [SECONDS [TARGET...]], by default 60 seconds and all targets.
#
# Builds with the stable compiler, instrumented as cargo-fuzz does it, without a sanitizer: what is
# fuzzed has no unsafe code, but for what the codecs' libraries bring along. Inputs that were found
# worth keeping stay in fuzz/corpus, the one that made a target fail in fuzz/artifacts;
# `fuzz/target/*/release/TARGET FILE` runs it again.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
targets=("${@:2}")
[ "${#targets[@]}" -gt 0 ] || targets=(responses requests frames record_batch compression config)

# Not instrumented, so not linked with libFuzzer.
cargo run --quiet --locked --bin seeds -- corpus

host=$(rustc -vV | sed -n 's/^host: //p')
flags=(
    --cfg fuzzing
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
)
# With --target the flags are for the targets alone, not for build scripts.
RUSTFLAGS="${flags[*]}" cargo build --quiet --locked --release --target "$host" \
    "${targets[@]/#/--bin=}"

run() {
    local target=$1 log=artifacts/$1.log
    if "$binaries/$target" "corpus/$target" -artifact_prefix="artifacts/$target-" \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 > "$log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, fine"
    else
        echo "$target: failed"
        grep -v '^#' "$log" | tail -n 40
        return 1
    fi
}
export -f run
export seconds binaries=target/$host/release
mkdir -p artifacts
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run {}'
