#!/bin/bash
# The built libraries from Go: the tests of tests/go, which have faults of the network between a Go
# program and its brokers, against the shared and the static one. KAFKA_PRODUCER_BUILD names the
# build directory, KAFKA_PRODUCER_SOURCE this repository's. Nothing is fetched: there are no modules
# but this one.
set -euo pipefail
build=${KAFKA_PRODUCER_BUILD:?the build directory}
source=${KAFKA_PRODUCER_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
if ! command -v go > /dev/null; then
    echo "skipped: go: there is no Go toolchain: programs in Go are not tried with the libraries"
    exit 77
fi
cd "$source/tests/go"
export FAULT_PROXY=$build/fault_proxy/debug/fault-proxy
export CGO_ENABLED=1 CGO_CFLAGS="-I$source/include"
export GOFLAGS= GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local GOWORK=off

unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "failed: not as gofmt has it: $unformatted"; exit 1; }
for kind in shared static; do
    case $kind in
        shared) CGO_LDFLAGS="-L$build -lkafka_producer -Wl,-rpath,$build" ;;
        static) CGO_LDFLAGS="$build/libkafka_producer.a -lpthread -ldl -lm" ;;
    esac
    export CGO_LDFLAGS
    echo "== the $kind library"
    go vet ./...
    go test -count=1 -timeout 200s ./...
done
