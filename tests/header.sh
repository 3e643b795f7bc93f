#!/bin/bash
# The headers compile without a warning as every C and C++ that gcc and clang know, alone, in either
# order and twice. KAFKA_PRODUCER_SOURCE is this repository.
set -uo pipefail
source=${KAFKA_PRODUCER_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
compiled=0

cat > "$work/headers.c" <<'C'
#include <kafka_producer.h>
#include <kafka_producer_mock.h>
#include <kafka_producer.h>
producer_status_t take(const producer_record_t *record, producer_log_level_t level);
producer_status_t take(const producer_record_t *record, producer_log_level_t level) {
  producer_stage_t stage = PRODUCER_STAGE_QUEUED;
  producer_slice_t slice = producer_str("text");
  return record && slice.len == 4 && stage && level == PRODUCER_LOG_INFO
      ? PRODUCER_OK : PRODUCER_ERR_INVALID_ARGUMENT;
}
C
echo '#include <kafka_producer_mock.h>' > "$work/mock_alone.c"
cp "$work/headers.c" "$work/headers.cpp"
cp "$work/mock_alone.c" "$work/mock_alone.cpp"

# compile COMPILER STANDARD FILE
compile() {
    if "$1" "-std=$2" -Wall -Wextra -Wpedantic -Wundef -Wshadow -Wconversion -Werror \
        -I "$source/include" -c -o "$work/out.o" "$3"; then
        compiled=$((compiled + 1))
    else
        echo "failed: $1 -std=$2 $(basename "$3")"
        failures=$((failures + 1))
    fi
}

for file in headers mock_alone; do
    for compiler in gcc clang; do
        command -v "$compiler" > "$work/where" || continue
        for standard in c99 c11 c17 c2x; do
            compile "$compiler" "$standard" "$work/$file.c"
        done
    done
    for compiler in g++ clang++; do
        command -v "$compiler" > "$work/where" || continue
        for standard in c++11 c++14 c++17 c++20 c++2b; do
            compile "$compiler" "$standard" "$work/$file.cpp"
        done
    done
done

if [ "$compiled" -eq 0 ] && [ "$failures" -eq 0 ]; then
    echo "skipped: header: neither gcc nor clang is installed"
    exit 77
fi
echo "$compiled compilations"
exit $((failures > 0))
