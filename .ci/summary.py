"""usage: summary.py DIRECTORY: what the steps of .ci/run took, and how many tests they ran.

DIRECTORY holds a line `step result seconds` per step in `times`, and STEP.log. A test is a Rust
test, an entry of ctest that is no cargo run, or a step that runs neither (clippy, say).
"""
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

CTEST_STEPS = {
    "test": "release",
    "asan": "asan",
    "chaos": "release/tests/real_kafka",
    "nightly": "release/tests/real_kafka",
}
CARGO_RESULT = re.compile(
    r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)


def cargo_counts(text):
    counts = [0, 0, 0]
    for found in CARGO_RESULT.finditer(text):
        counts = [have + int(more) for have, more in zip(counts, found.groups())]
    return counts


def ctest_counts(build):
    """Of a build directory: its entries, with those that ran cargo replaced by cargo's tests."""
    report = build / "tests.xml"
    if not report.exists():
        return [0, 0, 0]
    own, runs = [0, 0, 0], [0, 0, 0]
    for case in ElementTree.parse(report).iter("testcase"):
        index = {"run": 0, "fail": 1}.get(case.get("status"), 2)
        (runs if case.get("name").startswith("cargo.") else own)[index] += 1
    passed, failed, ignored = cargo_counts(
        (build / "Testing/Temporary/LastTest.log").read_text(errors="replace"))
    # A run that failed without a failed test, by its time limit say, has failed as well.
    return [own[0] + passed, own[1] + max(failed, runs[1]), own[2] + ignored]


def main():
    logs = Path(sys.argv[1])
    total = [0, 0, 0]
    print("\n==== summary\n%-12s %-8s %8s" % ("step", "result", "seconds"))
    for line in (logs / "times").read_text().splitlines():
        step, result, seconds = line.split()
        print("%-12s %-8s %8s" % (step, result, seconds))
        if result == "skipped":
            counts = [0, 0, 1]
        elif step in CTEST_STEPS:
            counts = ctest_counts(Path("build") / CTEST_STEPS[step])
        else:
            counts = cargo_counts((logs / (step + ".log")).read_text(errors="replace"))
        if result == "failed" and not counts[1]:
            counts[1] = 1
        elif not any(counts):
            counts[0] = 1
        total = [have + more for have, more in zip(total, counts)]
    print("%d passed, %d failed, %d skipped" % tuple(total))


main()
