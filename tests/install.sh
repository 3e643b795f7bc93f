#!/bin/bash
# Installs into a staging directory and builds a project outside of the tree against it: by
# find_package and by pkg-config, shared and static. KAFKA_PRODUCER_BUILD names the build directory,
# KAFKA_PRODUCER_SOURCE this repository's.
set -uo pipefail
build=${KAFKA_PRODUCER_BUILD:?the build directory}
source=${KAFKA_PRODUCER_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
cc=${CC:-cc}
if ! command -v pkg-config > /dev/null; then
    echo "skipped: install: no pkg-config"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
    echo "failed: $*"
    failures=$((failures + 1))
}

# quietly WHAT COMMAND...: its output appears only where it fails.
quietly() {
    local what=$1
    shift
    "$@" > "$work/log" 2>&1 || { fail "$what"; cat "$work/log"; return 1; }
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/Cargo.toml" | head -1)
minor=${version%.*}
prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:[A-Z]*=//p' "$build/CMakeCache.txt")
libdir=$(sed -n 's/^CMAKE_INSTALL_LIBDIR:[A-Z]*=//p' "$build/CMakeCache.txt")
stage=$work/stage
quietly "install" env DESTDIR="$stage" cmake --install "$build" || exit 1
lib=$stage$prefix/$libdir
for file in "$libdir"/libkafka_producer.{a,so,"so.$minor","so.$version"} \
    "$libdir/pkgconfig/kafka-producer.pc" include/kafka_producer.h; do
    [ -e "$stage$prefix/$file" ] || fail "not installed: $file"
done

# The component a Linux distribution's run-time package consists of.
quietly "install of the component runtime" \
    env DESTDIR="$work/runtime" cmake --install "$build" --component runtime
installed=$(cd "$work/runtime$prefix/$libdir" && echo *)
[ "$installed" = "libkafka_producer.so.$minor libkafka_producer.so.$version" ] ||
    fail "the component runtime holds: $installed"

cp -r "$source/tests/install" "$work/consumer"
consumer=$work/consumer
configure() {
    cmake -S "$consumer" -B "$1" "-DCMAKE_PREFIX_PATH=$stage$prefix" "-DWANTED_VERSION=$2"
}
if quietly "find_package" configure "$consumer/build" "$minor" &&
    quietly "build of the consumer" cmake --build "$consumer/build"; then
    for program in shared static; do
        quietly "the consumer, $program" "$consumer/build/consumer_$program" "$version"
    done
    ldd "$consumer/build/consumer_shared" |
        grep "libkafka_producer.so.$minor => $lib" > /dev/null ||
        fail "the shared consumer does not load the staged library"
    ldd "$consumer/build/consumer_static" | grep libkafka_producer > /dev/null &&
        fail "the static consumer loads the shared library"
fi
# Before 1.0 another minor version may differ in everything.
configure "$consumer/refused" "0.$((${minor#*.} + 1))" > /dev/null 2>&1 &&
    fail "find_package takes version $version for a later one"

export PKG_CONFIG_PATH=$lib/pkgconfig
found=$(pkg-config --modversion kafka-producer)
[ "$found" = "$version" ] || fail "pkg-config's version is $found"
read -ra flags <<< "$(pkg-config --cflags --libs kafka-producer)"
quietly "compile with pkg-config" \
    "$cc" -o "$work/shared" "$consumer/consumer.c" "${flags[@]}" "-Wl,-rpath,$lib" &&
    quietly "the pkg-config consumer, shared" "$work/shared" "$version"
# A directory with the archive alone is how one links statically by pkg-config.
mkdir "$work/archive" && cp "$lib/libkafka_producer.a" "$work/archive"
read -ra flags <<< "-L$work/archive $(pkg-config --static --cflags --libs kafka-producer)"
quietly "compile with pkg-config --static" \
    "$cc" -o "$work/static" "$consumer/consumer.c" "${flags[@]}" &&
    quietly "the pkg-config consumer, static" "$work/static" "$version"

# Where the library directory is deeper, the .pc file must climb further to find its prefix.
quietly "configure for a multiarch library directory" cmake -S "$source" -B "$work/multiarch" \
    -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=lib/multi-arch -DKAFKA_PRODUCER_TESTS=OFF \
    -DKAFKA_PRODUCER_EXAMPLES=OFF
grep -qx 'prefix=${pcfiledir}/../../..' "$work/multiarch/kafka-producer.pc" ||
    fail "the .pc file's prefix is wrong for lib/multi-arch"

[ "$failures" -eq 0 ] && echo "installed, found, linked and run: shared and static"
exit $((failures > 0))
