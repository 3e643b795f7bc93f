"""usage: summary.py DIRECTORY: what the steps of .ci/run took, how many tests they ran, and which
of those failed and why.

DIRECTORY holds a line `step result seconds` per step in `times`, and STEP.log. A test is a Rust
test, an entry of ctest that is no cargo run, or a step that runs neither (clippy, say). The result
is passed, failed, skipped, or timeout.
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
    r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE
)
# What a failed Rust test printed, up to the next one's.
CARGO_FAILURE = re.compile(
    r"^---- (\S+).* stdout ----\n(.*?)(?=^---- .* stdout ----$|^failures:$|\Z)",
    re.MULTILINE | re.DOTALL,
)
# ctest's last list, the only place where it says how a test failed: (name, how).
CTEST_FAILED = re.compile(r"^\s+\d+ - (\S+) \((.+)\)$", re.MULTILINE)
CTEST_STARTED = re.compile(r"^ +Start +(\d+): (\S+)$", re.MULTILINE)
CTEST_ENDED = re.compile(r"^ *\d+/\d+ Test +#(\d+): ", re.MULTILINE)
# The last lines of what failed, and the first ones of a Rust test's.
LINES = 30


def cargo_counts(text):
    counts = [0, 0, 0]
    for found in CARGO_RESULT.finditer(text):
        counts = [have + int(more) for have, more in zip(counts, found.groups())]
    return counts


def entries(build):
    """Of ctest's report: (name, passed 0 | failed 1 | skipped 2, output) of each."""
    report = build / "tests.xml"
    if not report.exists():
        return []
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        index = {"run": 0, "fail": 1}.get(case.get("status"), 2)
        reason = case.find("skipped")
        # What did not run because of another's failure, or is not there, ctest reports like that.
        if reason is not None and not reason.get("message", "").startswith("SKIP_"):
            index = 1
        found.append((case.get("name"), index, case.findtext("system-out") or ""))
    return found


def ctest_counts(build):
    """Of a build directory: its entries, with those that ran cargo replaced by cargo's tests."""
    own, runs = [0, 0, 0], [0, 0, 0]
    for name, index, _ in entries(build):
        (runs if name.startswith("cargo.") else own)[index] += 1
    log = build / "Testing/Temporary/LastTest.log"
    passed, failed, ignored = cargo_counts(text_of(log))
    # A run that failed without a failed test, by its time limit say, has failed as well.
    return [own[0] + passed, own[1] + max(failed, runs[1]), own[2] + ignored]


def text_of(file):
    return file.read_text(errors="replace") if file.exists() else ""


def why(output):
    """Of what a failed test or step printed, the lines that say why."""
    told = []
    for found in CARGO_FAILURE.finditer(output):
        told += [found[1] + ":"] + found[2].strip().splitlines()[:LINES]
    return told + output.strip().splitlines()[-LINES:]


def failures(step, result, log, build):
    """(name, how it failed, its output) of each test that failed in a step; of the step itself
    where none did."""
    found = []
    if build is not None:
        how = dict(CTEST_FAILED.findall(log))
        found = [
            (name, how.get(name, "Failed"), output)
            for name, index, output in entries(build)
            if index == 1
        ]
        # ctest that was ended writes no report: what ran then is what it did not end with.
        if result == "timeout":
            ended = set(CTEST_ENDED.findall(log))
            running = [name for at, name in CTEST_STARTED.findall(log) if at not in ended]
            found += [(name, "was running", "") for name in running]
    if result == "timeout" or not found:
        found.append((step, "took too long" if result == "timeout" else "Failed", log))
    return found


def tell_failures(logs, step, result, build):
    for name, how, output in failures(step, result, text_of(logs / (step + ".log")), build):
        print("\n==== %s: %s (%s)" % (step, name, how))
        for line in why(output):
            print("    " + line)


def main(logs, builds=Path("build")):
    total, failed = [0, 0, 0], []
    print("\n==== summary\n%-12s %-8s %8s" % ("step", "result", "seconds"))
    for line in (logs / "times").read_text().splitlines():
        step, result, seconds = line.split()
        print("%-12s %-8s %8s" % (step, result, seconds))
        build = builds / CTEST_STEPS[step] if step in CTEST_STEPS else None
        if result == "skipped":
            counts = [0, 0, 1]
        elif build is not None:
            counts = ctest_counts(build)
        else:
            counts = cargo_counts(text_of(logs / (step + ".log")))
        if result in ("failed", "timeout"):
            counts[1] = counts[1] or 1
            failed.append((step, result, build))
        elif not any(counts):
            counts[0] = 1
        total = [have + more for have, more in zip(total, counts)]
    for one in failed:
        tell_failures(logs, *one)
    print("%d passed, %d failed, %d skipped" % tuple(total))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
