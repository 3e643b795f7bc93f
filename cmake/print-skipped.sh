#!/bin/bash
# print-skipped.sh BUILD_DIRECTORY: why tests were skipped in ctest's last run.
set -uo pipefail
grep -h '^skipped: ' "$1"/Testing/Temporary/LastTest.log* | sort -u
exit 0
