#!/bin/bash
# The quick start on the cluster inside its process: every record is in the table, offsets without a
# gap, the progress line on a terminal and only there.
set -euo pipefail
quickstart=$KAFKA_PRODUCER_BUILD/examples/quickstart
unset KAFKA_BOOTSTRAP
fail() { echo "failed: $*"; exit 1; }

output=$("$quickstart" 2>&1)
echo "$output"
case $output in *$'\r'*) fail "a progress line without a terminal" ;; esac
awk '
  NF == 4 && $1 ~ /^[0-9]+$/ { rows++; sum += $2; if ($3 != 0 || $4 != $2 - 1) gaps++ }
  END { exit !(rows == 6 && sum == 1000000 && gaps == 0) }
' <<< "$output" || fail "the table does not have a million records in 6 partitions"
grep -Eq '^[0-9]+ records/s, [0-9.]+ MB/s; from send to delivery p50 [0-9.]+ ms, p99 [0-9.]+ ms$' \
  <<< "$output" || fail "no line of figures"

terminal=$(script -qec "$quickstart" /dev/null)
case $terminal in *$'\r'*" acknowledged"*) ;; *) fail "no progress line on a terminal" ;; esac
