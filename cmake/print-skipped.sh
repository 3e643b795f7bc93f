#!/bin/bash
# print-skipped.sh BUILD_DIRECTORY: why tests were skipped in ctest's last run.
set -uo pipefail
log=$1/Testing/Temporary/LastTest.log
# While ctest runs, LastTest.log is the run before.
[ ! -e "$log.tmp" ] || log=$log.tmp
grep -h '^skipped: ' "$log" | sort -u
exit 0
