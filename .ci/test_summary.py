"""What summary.py makes of the logs and reports that steps leave."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import summary

CARGO_LOG = """
test a::passes ... ok
test a::fails ... FAILED

failures:

---- a::fails stdout ----
thread 'a::fails' panicked at src/a.rs:7:5:
left is not right

failures:
    a::fails

test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out
"""
REPORT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="(empty)">
  <testcase name="fine" status="run"><system-out></system-out></testcase>
  <testcase name="kafka.order" status="fail"><failure message=""/>
    <system-out>AssertionError: partition 2</system-out></testcase>
  <testcase name="slow" status="fail"><failure message=""/><system-out/></testcase>
  <testcase name="start" status="fail"><failure message=""/>
    <system-out>no broker</system-out></testcase>
  <testcase name="needs-start" status="notrun">
    <skipped message="Fixture dependency failed"/>
    <system-out>Failed test dependencies: start</system-out></testcase>
  <testcase name="skipped" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/>
    <system-out>skipped: x: y</system-out></testcase>
  <testcase name="cargo.lib" status="fail"><failure message=""/>
    <system-out>%s</system-out></testcase>
</testsuite>
""" % CARGO_LOG
CTEST_LOG = """
      Start  1: fine
 1/7 Test  #1: fine .................   Passed    0.01 sec
      Start 12: kafka.order
12/14 Test #12: kafka.order ..........***Failed   0.01 sec
      Start 13: slow
%s
The following tests FAILED:
\t 12 - kafka.order (Failed)
\t 13 - slow (Timeout)
"""


class Summary(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.logs = self.builds = Path(directory.name)

    def tell(self, times, **logs):
        (self.logs / "times").write_text(times)
        for step, text in logs.items():
            (self.logs / (step + ".log")).write_text(text)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            summary.main(self.logs, self.builds)
        return out.getvalue()

    def report(self):
        build = self.builds / "release"
        (build / "Testing/Temporary").mkdir(parents=True)
        (build / "tests.xml").write_text(REPORT)
        (build / "Testing/Temporary/LastTest.log").write_text(CARGO_LOG)

    def test_steps_without_tests_count_as_one(self):
        times = "fmt passed 1\nclippy failed 2\nmiri skipped 0\n"
        told = self.tell(times, clippy="error: unused\n")
        self.assertIn("1 passed, 1 failed, 1 skipped", told)
        self.assertIn("==== clippy: clippy (Failed)\n    error: unused\n", told)
        self.assertNotIn("fmt (", told)

    def test_a_rust_test_that_failed_is_named_with_its_reason(self):
        told = self.tell("sim failed 9\n", sim=CARGO_LOG + "noise\n" * 100)
        self.assertIn("3 passed, 1 failed, 2 skipped", told)
        self.assertIn("a::fails:", told)
        self.assertIn("left is not right", told)

    def test_entries_of_ctest_that_failed_are_named_with_their_reasons(self):
        self.report()
        told = self.tell("test failed 9\n", test=CTEST_LOG % "13/14 Test #13: slow ...***Timeout")
        # fine; kafka.order, slow, start and what needs it; those of cargo.
        self.assertIn("4 passed, 5 failed, 3 skipped", told)
        self.assertIn("==== test: kafka.order (Failed)\n    AssertionError: partition 2\n", told)
        self.assertIn("==== test: slow (Timeout)\n", told)
        self.assertIn("==== test: needs-start (Failed)\n    Failed test dependencies: start", told)
        self.assertIn("left is not right", told)
        self.assertNotIn("fine (", told)
        self.assertNotIn("test: skipped", told)

    def test_a_step_that_took_too_long_names_what_ran_then(self):
        told = self.tell("test timeout 9\n", test=CTEST_LOG.split("The following")[0] % "")
        self.assertIn("0 passed, 1 failed, 0 skipped", told)
        self.assertIn("==== test: slow (was running)", told)
        self.assertIn("==== test: test (took too long)", told)
        self.assertNotIn("kafka.order (", told)

    def test_a_report_is_not_needed(self):
        told = self.tell("asan failed 1\n", asan="cmake: no compiler\n")
        self.assertIn("0 passed, 1 failed, 0 skipped", told)
        self.assertIn("==== asan: asan (Failed)\n    cmake: no compiler\n", told)


if __name__ == "__main__":
    unittest.main()
