"""The examples as a user runs them, against a real broker."""

import contextlib
import os
import re
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import harness

MB = 1 << 20


def setUpModule():
    global cluster
    cluster = harness.cluster()


def run_example(variable, *arguments, bootstrap=None):
    """(exit status, standard output, standard error), as text."""
    done = subprocess.run(
        [os.environ[variable], *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=3 * harness.PATIENCE_S,
        env=dict(os.environ, KAFKA_BOOTSTRAP=bootstrap or cluster.bootstrap),
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")


class Hello(unittest.TestCase):
    def test_it_says_where_its_record_is(self):
        code, out, err = run_example("HELLO", cluster.bootstrap)
        self.assertEqual((code, err), (0, ""), out)
        partition, offset = map(int, re.fullmatch(r"partition (\d+), offset (\d+)\n", out).groups())
        at = {record.place(): record.value for record in cluster.java_consume("hello")}
        self.assertEqual(at["hello", partition, offset], b"world")


class Quickstart(unittest.TestCase):
    def test_its_table_is_what_the_broker_has(self):
        code, out, err = run_example("QUICKSTART")
        self.assertEqual(code, 0, err)
        rows = [
            tuple(map(int, row)) for row in re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+)$", out, re.M)
        ]
        self.assertEqual(sum(records for _, records, _, _ in rows), 1_000_000, out)
        for _, records, first, last in rows:
            self.assertEqual(last - first + 1, records)
        self.assertEqual({row[0]: row[3] + 1 for row in rows}, cluster.ends("quickstart"))
        print(out)


class SendFile(unittest.TestCase):
    def send(self, content, *options, topic=None):
        topic = topic or cluster.create_topic("file", 3, max_message_bytes=2 * MB)
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            code, out, err = run_example("SEND_FILE", file.name, topic, *options)
        return topic, code, out, err

    def check(self, topic, lines, delimiter=None):
        """The topic holds a record of each line, and the order of each key is that of the file."""
        expected = [split(line, delimiter) for line in lines]
        read = cluster.java_consume(topic)
        self.assertEqual(
            sorted((record.key is not None, record.key or b"", record.value) for record in read),
            sorted((key is not None, key or b"", value) for key, value in expected),
        )
        for log in harness.by_partition(read).values():
            keys = {record.key for record in log if record.key is not None}
            self.assertEqual(
                [(record.key, record.value) for record in log if record.key is not None],
                [(key, value) for key, value in expected if key in keys],
            )

    def test_lines_of_every_kind(self):
        lines = [b"a line", b"", b"key:value", b":empty key", b"empty value:", b":", b"k:v:w"]
        lines += [
            "schlüssel:wert 鍵 🔑".encode(),
            b"carriage return\r",
            b"\0binary\0:\xff\xfe",
            b"k:v",
        ]
        for delimiter in (None, b":"):
            options = ["--key-delimiter", ":"] if delimiter else []
            topic, code, out, err = self.send(b"\n".join(lines) + b"\n", *options)
            self.assertEqual((code, out), (0, ""), err)
            self.check(topic, lines, delimiter)

    def test_files_without_a_last_newline_and_without_lines(self):
        for content, lines in ((b"a\nb", [b"a", b"b"]), (b"a\n\n", [b"a", b""]), (b"\n", [b""])):
            topic, code, out, err = self.send(content)
            self.assertEqual((code, out), (0, ""), err)
            self.check(topic, lines)
        topic, code, out, err = self.send(b"")
        self.assertEqual((code, out), (0, ""), err)
        self.assertEqual(sum(cluster.ends(topic).values()), 0)

    def test_many_keyed_lines(self):
        lines = [b"user-%d|event %d" % (n % 1009, n) for n in range(200_000)]
        topic, code, out, err = self.send(b"\n".join(lines), "--key-delimiter", "|")
        self.assertEqual((code, out), (0, ""), err)
        self.assertIn("200000 lines delivered", err)
        self.check(topic, lines, b"|")

    def test_long_lines_around_the_size_of_a_read(self):
        lines = [b"%d " % size + b"x" * size for size in (65_530, 65_536, 65_540, 200_000, 900_000)]
        topic, code, out, err = self.send(b"\n".join(lines * 3))
        self.assertEqual((code, out), (0, ""), err)
        self.check(topic, lines * 3)

    def test_a_large_file_takes_no_more_memory_than_configured(self):
        topic = cluster.create_topic("large", 3)
        lines = (b"x" * 999 + b"\n") * 1000
        process = subprocess.Popen(
            [os.environ["SEND_FILE"], "-", topic, "-X", "buffer.memory=4194304"],
            stdin=subprocess.PIPE,
            env=dict(os.environ, KAFKA_BOOTSTRAP=cluster.bootstrap),
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        with process.stdin as pipe:
            for _ in range(200):
                pipe.write(lines)
            # All but the last batches are sent. Its end would leave nothing to look at: getrusage()
            # tells the largest of what the process ever was, and it was a copy of this one.
            peak = re.search(
                r"VmHWM:\s+(\d+) kB", Path("/proc/%d/status" % process.pid).read_text()
            )
        self.assertEqual(process.wait(harness.PATIENCE_S), 0)
        self.assertEqual(sum(cluster.ends(topic).values()), 200_000)
        self.assertLess(int(peak.group(1)), 40 * 1024, "KiB")

    def test_lines_that_are_too_large_are_named_and_the_others_sent(self):
        limit = 100_000
        lines = [b"1", b"x" * (limit - 1), b"3", b"x" * limit * 10, b"5", b"x" * (limit + 1)]
        topic, code, out, err = self.send(
            b"\n".join(lines), "-X", "max.request.size=%d" % limit, "-X", "batch.size=1000"
        )
        self.assertEqual((code, out), (1, "not delivered: 2, 4, 6\n"), err)
        self.assertIn("line 2: ", err)
        self.assertIn("max.request.size", err)
        self.check(topic, [lines[0], lines[2], lines[4]])

    def test_a_line_that_the_broker_finds_too_large(self):
        topic = cluster.create_topic("file", 1, max_message_bytes=1000)
        lines = [b"1", b"2", b"x" * 2000, b"4"]
        _, code, out, err = self.send(
            b"\n".join(lines), "-X", "batch.size=1", "-X", "linger.ms=0", topic=topic
        )
        self.assertEqual((code, out), (1, "not delivered: 3\n"), err)
        self.check(topic, [lines[0], lines[1], lines[3]])

    def test_a_topic_that_cannot_be_ends_it_at_once(self):
        _, code, out, err = self.send(b"a\nb\nc\n", topic="not a topic's name")
        self.assertEqual((code, out), (1, "not delivered: 1, 2-\n"), err)
        self.assertIn("line 1: ", err)

    def test_without_a_broker_it_ends_with_a_sentence(self):
        code, out, err = run_example(
            "SEND_FILE",
            *("/proc/self/status", "topic", "-X", "max.block.ms=1000"),
            bootstrap="no-such-host.invalid:9092",
        )
        self.assertEqual((code, out), (1, "not delivered: 1, 2-\n"), err)
        self.assertIn("no-such-host.invalid", err)

    def test_wrong_use_and_unreadable_files(self):
        for arguments in (
            ["/no/such/file", "topic"],
            ["/", "topic"],
            ["/etc/hostname"],
            ["/etc/hostname", "topic", "more"],
            ["/etc/hostname", "topic", "--unknown"],
            ["/etc/hostname", "topic", "--key-delimiter", "two"],
            ["/etc/hostname", "topic", "-X", "no-value"],
            ["/etc/hostname", "topic", "-X", "no.such.key=1"],
        ):
            code, out, err = run_example("SEND_FILE", *arguments)
            self.assertEqual((code, out), (2, ""), arguments)
            self.assertTrue(err.startswith("send_file: "), err)


class SendFileAndFaults(unittest.TestCase):
    """Lines through a pipe, so that a fault comes between two of them."""

    def setUp(self):
        self.topic = cluster.create_topic("pipe")
        self.log = harness.log_path("send_file")
        self.addCleanup(cluster.revive)

    def start(self, **config):
        process = subprocess.Popen(
            [os.environ["SEND_FILE"], "-", self.topic, *harness.options(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(self.log, "wb"),
            env=dict(os.environ, KAFKA_BOOTSTRAP=cluster.bootstrap),
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def wait_until_written(self, count):
        deadline = time.monotonic() + harness.PATIENCE_S
        while cluster.ends(self.topic)[0] < count:
            self.assertLess(time.monotonic(), deadline, "records do not arrive")

    def finish(self, process):
        out, _ = process.communicate(timeout=3 * harness.PATIENCE_S)
        return process.returncode, out.decode(), self.log.read_text(errors="replace")

    def test_the_broker_is_restarted_in_the_middle(self):
        process = self.start()
        restarted = threading.Event()
        lines = []

        def feed():
            while not restarted.wait(
                0.01
            ):  # some hundred thousand lines, whatever the restart takes
                for _ in range(100):
                    lines.append(b"%d" % len(lines))
                    process.stdin.write(lines[-1] + b"\n")
            process.stdin.flush()

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        try:
            self.wait_until_written(1000)
            cluster.tell("restart", 1)
            self.wait_until_written(cluster.ends(self.topic)[0] + 1000)
        finally:
            restarted.set()
            feeder.join(harness.PATIENCE_S)
        self.assertFalse(feeder.is_alive(), "send_file does not read")
        self.assertEqual(self.finish(process)[:2], (0, ""))
        values = [record.value for record in cluster.java_consume(self.topic)]
        self.assertEqual(list(dict.fromkeys(values)), lines, "lost or out of order")

    def send_first(self, process):
        """From then on the producer knows the topic and its broker. Whether it knows that the line
        is written is left open: what becomes of the broker next may cost it the answer."""
        process.stdin.write(b"first\n")
        process.stdin.flush()
        self.wait_until_written(1)

    def test_lines_that_failed_unwritten_are_sent_again(self):
        # The lines' second or third try must find the broker again: it is the measure.
        began = time.monotonic()
        cluster.tell("kill", 1)
        cluster.tell("restart", 1)
        try_s = 2 + time.monotonic() - began
        process = self.start(
            linger_ms=0, request_timeout_ms=1000, delivery_timeout_ms=int(1000 * try_s)
        )
        self.send_first(process)
        cluster.tell("kill", 1)
        self.wait_until_missed(process)
        process.stdin.write(b"second\n" * 3)
        process.stdin.flush()
        time.sleep(try_s + 0.4)  # not to wait for anything: they time out while the broker is down
        cluster.tell("restart", 1)
        code, out, err = self.finish(process)
        self.assertIn((code, out), [(0, ""), (1, "may be delivered: 1\n")], err)
        values = [record.value for record in cluster.java_consume(self.topic)]
        self.assertEqual(values.count(b"second"), 3)

    def wait_until_missed(self, process):
        """Until the producer has found that its broker is gone: what comes now is surely unsent."""
        deadline = time.monotonic() + harness.PATIENCE_S
        while harness.has_connection(process.pid):
            self.assertLess(time.monotonic(), deadline, "the producer does not miss its broker")

    def test_lines_that_may_be_written_are_told_apart(self):
        process = self.start(linger_ms=0, request_timeout_ms=4000, delivery_timeout_ms=6000)
        self.send_first(process)
        cluster.signal("pause", 1)
        try:
            process.stdin.write(b"second\n")
            code, out, err = self.finish(process)
        finally:
            cluster.signal("resume", 1)
        told = [(1, "may be delivered: 2\n"), (1, "may be delivered: 1-2\n")]
        self.assertIn((code, out), told, err)


class DeadLetters(unittest.TestCase):
    """A broker that is down in the first run and back in the second."""

    def run_example(self, file, *arguments, lines=b""):
        done = subprocess.run(
            [os.environ["DEAD_LETTERS"], file, *arguments],
            input=lines,
            capture_output=True,
            timeout=3 * harness.PATIENCE_S,
            env=dict(os.environ, KAFKA_BOOTSTRAP=cluster.bootstrap),
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")

    def test_what_failed_is_sent_by_the_next_run(self):
        topic = cluster.create_topic("letters", 3)
        self.addCleanup(cluster.revive)
        lines = [b"line %d" % n for n in range(1000)]
        with tempfile.TemporaryDirectory() as directory:
            file = os.path.join(directory, "letters")
            cluster.tell("kill", 1)
            try:
                code, out, err = self.run_example(
                    file, topic, "-X", "max.block.ms=1000", lines=b"\n".join(lines)
                )
            finally:
                cluster.tell("restart", 1)
            self.assertEqual((code, out), (1, f"0 delivered, 1000 kept in {file}\n"), err)
            code, out, err = self.run_example(file)
            self.assertEqual((code, out), (0, f"1000 delivered, 0 kept in {file}\n"), err)
            self.assertEqual(os.listdir(directory), [])
        values = sorted(record.value for record in cluster.java_consume(topic))
        self.assertEqual(values, sorted(lines))


def split(line, delimiter):
    if delimiter is None or delimiter not in line:
        return None, line
    return tuple(line.split(delimiter, 1))


if __name__ == "__main__":
    harness.main()
