#!/bin/bash
# What the built libraries show to the world: producer_* and nothing else, in the shared library
# with versions, a SONAME and no way to be unloaded; and the static library gets along with another
# Rust library in the same program. KAFKA_PRODUCER_BUILD names the build directory,
# KAFKA_PRODUCER_SOURCE this repository's.
set -uo pipefail
export LC_ALL=C
build=${KAFKA_PRODUCER_BUILD:?the build directory}
source=${KAFKA_PRODUCER_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
shared=$build/libkafka_producer.so
static=$build/libkafka_producer.a
map=$source/include/kafka_producer.map
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
    echo "failed: $*"
    failures=$((failures + 1))
}

# same WHAT EXPECTED ACTUAL
same() {
    if [ "$2" != "$3" ]; then
        fail "$1"
        diff <(echo "$2") <(echo "$3") | sed 's/^</  missing:/; s/^>/  too much:/'
    fi
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/Cargo.toml" | head -1)
minor=${version%.*}
node=$(sed -n 's/^\(PRODUCER_[0-9.]*\) {.*/\1/p' "$map")
expected=$(grep -oE '^ +producer_[a-z0-9_]+;' "$map" | tr -d ' ;' | sort)
[ -n "$expected" ] || fail "no symbols in $map"
[ "$node" = "PRODUCER_$minor" ] || fail "the map's version is '$node', the crate's $version"

same "dynamic symbols of the shared library, with versions" \
    "$( (echo "$expected" | sed "s/\$/@@$node/"; echo "$node") | sort)" \
    "$(nm -D --defined-only "$shared" | awk '{print $3}' | sed "s/^$node@@.*/$node/" | sort)"
same "global symbols of the static library" "$expected" \
    "$(nm -g --defined-only "$static" 2>/dev/null | awk 'NF == 3 {print $3}' | sort)"

dynamic=$(readelf -dW "$shared")
soname=libkafka_producer.so.$minor
grep -q "SONAME.*\[$soname\]" <<< "$dynamic" || fail "the SONAME is not $soname"
grep -q 'FLAGS_1.*NODELETE' <<< "$dynamic" || fail "dlclose() could unmap it: no NODELETE"
grep -q 'FLAGS_1.*NOW' <<< "$dynamic" || fail "symbols are bound lazily: no NOW"
grep -q TEXTREL <<< "$dynamic" && fail "it has text relocations"
readelf -lW "$shared" | grep 'GNU_STACK' | grep 'RWE' > /dev/null && fail "its stack is executable"
[ "$(readlink "$shared")" = "$soname" ] || fail "$shared does not point to $soname"
for needed in $(sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' <<< "$dynamic"); do
    case $needed in
        libc.so.6 | libgcc_s.so.1 | libm.so.6 | ld-linux-*) ;;
        *) fail "it needs $needed" ;;
    esac
done

# Another Rust library brings its own std, with the same names as ours: both must link and panic on
# their own.
cat > "$work/other.rs" <<'RUST'
#[unsafe(no_mangle)]
pub extern "C" fn other_panics() -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    std::panic::catch_unwind(|| panic!("caught")).is_err()
}
RUST
cat > "$work/main.c" <<'C'
#include <stdbool.h>
#include <kafka_producer.h>
extern bool other_panics(void);
int main(void) { return producer_version()[0] != 0 && other_panics() ? 0 : 1; }
C
cc=${CC:-cc}
if ! rustc --edition 2024 --crate-type staticlib -o "$work/libother.a" "$work/other.rs"; then
    fail "rustc does not build the other library"
elif ! "$cc" -o "$work/both" -I "$source/include" "$work/main.c" \
    "$static" "$work/libother.a" -lpthread -ldl -lm; then
    fail "the static library does not link beside another Rust library"
elif ! "$work/both"; then
    fail "the program with two Rust libraries exits with $?"
fi

[ "$failures" -eq 0 ] && echo "$(wc -l <<< "$expected") symbols, SONAME $soname"
exit $((failures > 0))
