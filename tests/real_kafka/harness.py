"""What the real-Kafka tests share: the cluster, the program that produces, the judges that consume.

Each test module runs on its own (ctest does that). It takes from the environment
  KAFKA_DIR        the folder of the cluster that tests/support/kafka started
  KAFKA_MISSING    a file; where it exists it says why there is no cluster, and all is skipped
  PYTHON_ENV       the environment made by tests/support/python-env
  PRODUCE, CHAOS, SEND_FILE, QUICKSTART, HELLO   the programs under test

A judge is a client that shares no code with this library. Nothing here sleeps: what is waited for
is an event of a process, with a deadline.
"""

import base64
import contextlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

SUPPORT = Path(__file__).resolve().parent.parent / "support"
LAUNCHER = SUPPORT / "kafka"

sys.path.append(str(SUPPORT))
from kafka_launcher.supervisor import ask

MAYBE_PERSISTED = 8
# States of a connection in /proc/net/tcp.
ESTABLISHED, CLOSE_WAIT = "01", "08"
# In the place of a record's partition, for the program `produce`.
FLUSH = -2

# How long one thing may take that normally takes a second or two: a bound against hanging, however
# busy the machine is. What waits for other things that are bounded by it has a multiple.
PATIENCE_S = 240
# A time-out of the producer's that is not to pass.
NEVER_MS = 1000 * PATIENCE_S
# What the program `produce` has unless a test says otherwise: records wait as long as it takes.
PATIENT = dict(max_block_ms=NEVER_MS, delivery_timeout_ms=3 * NEVER_MS)


def run(command, timeout=PATIENCE_S, stdin=b"", env=None):
    """Its standard output. A failure shows what the program said."""
    name = " ".join(map(str, command[:4]))
    try:
        done = subprocess.run(
            list(map(str, command)), input=stdin, capture_output=True, timeout=timeout, env=env
        )
    except subprocess.TimeoutExpired as expired:
        said = tail(expired.stderr or b"")
        raise AssertionError("%s took more than %g s:\n%s" % (name, timeout, said)) from None
    if done.returncode:
        raise AssertionError("%s exited with %d:\n%s" % (name, done.returncode, tail(done.stderr)))
    return done.stdout


def tail(data, size=4000):
    return data[-size:].decode(errors="replace")


# ---- Cluster ----


class Cluster:
    def __init__(self, directory):
        self.directory = directory
        self.bootstrap = self.tell("bootstrap").strip()

    def tell(self, *words, stdin=b""):
        """The launcher bounds its own waits, of which `restart` has three."""
        return run([LAUNCHER, *words, "--dir", self.directory], 3 * PATIENCE_S, stdin).decode()

    def signal(self, word, node):
        """kill, term, pause or resume within a millisecond or two, where `tell` takes a hundred."""
        if ask(Path(self.directory).resolve(), word, str(node)) is None:
            raise AssertionError("no cluster is running in %s" % self.directory)

    def revive(self):
        """Restarts what has ended, and waits until all is in sync: the next test finds it whole."""
        for name, node in json.loads(self.tell("status"))["nodes"].items():
            if node["exit"] is not None:
                self.tell("restart", name)
        self.tell("wait-in-sync")

    def create_topic(self, name, partitions=1, **config):
        topic = fresh(name)
        settings = [
            "--config=%s=%s" % (key.replace("_", "."), value) for key, value in config.items()
        ]
        self.tell("topic", "create", topic, "--partitions", partitions, *settings)
        return topic

    def set_topic_config(self, topic, key, value):
        run([python(), "-c", SET_TOPIC_CONFIG, self.bootstrap, topic, key, value])

    def describe(self, topic):
        return {
            int(index): partition
            for index, partition in json.loads(self.tell("topic", "describe", topic)).items()
        }

    def leader(self, topic, partition):
        """Of a partition that may be without one for a moment."""
        deadline = time.monotonic() + PATIENCE_S
        while (leader := self.describe(topic)[partition]["leader"]) < 0:
            if time.monotonic() > deadline:
                raise AssertionError("%s [%d] has no leader" % (topic, partition))
        return leader

    def move_leaders(self, topic, turn, more):
        """Each partition's leadership goes to one of the two followers, by `turn`; more() after
        each."""
        for index, partition in self.describe(topic).items():
            others = [node for node in sorted(partition["replicas"]) if node != partition["leader"]]
            self.tell("topic", "move-leader", topic, index, others[turn % 2])
            more()

    def ends(self, topic):
        """The number of records of each partition."""
        return {
            int(index): end - first
            for index, (first, end) in json.loads(self.tell("topic", "ends", topic)).items()
        }

    def batches(self, topic, partition, node=1):
        """The headers of the batches in a replica's log, as they lie on the disk."""
        folder = Path(self.directory) / ("node-%s/data/%s-%d" % (node, topic, partition))
        return [
            batch
            for segment in sorted(folder.glob("*.log"))
            for batch in Batch.parse_all(segment.read_bytes())
        ]

    def java_consume(self, *topics, count=-1):
        lines = self.tell("consume", *topics, "--count", count, "--timeout", 2 * PATIENCE_S)
        return [Consumed.parse(line) for line in lines.splitlines()]

    def java_stream(self, *topics, timeout=PATIENCE_S):
        """What java_consume() gives, one after the other: for more records than memory likes."""
        command = [LAUNCHER, "consume", *topics, "--timeout", timeout, "--dir", self.directory]
        with tempfile.TemporaryFile() as log:
            with subprocess.Popen(
                list(map(str, command)), stdout=subprocess.PIPE, stderr=log
            ) as consumer:
                for line in consumer.stdout:
                    yield Consumed.parse(line)
            if consumer.returncode:
                log.seek(0)
                raise AssertionError("consume: %s" % tail(log.read()))

    def java_partitions(self, topic, keys):
        """Where Java's producer puts a record of each key."""
        lines = b"".join(base64.b64encode(key) + b"\n" for key in keys)
        return list(map(int, self.tell("partitions", topic, stdin=lines).split()))

    def librdkafka_partitions(self, topic, partitioner, keys):
        """Where librdkafka's producer puts a record of each key; None is a null one."""
        script = SUPPORT / "librdkafka_partitions.py"
        lines = b"".join(
            (b"-" if key is None else base64.b64encode(key)) + b"\n" for key in keys
        )
        placed = run([python(), script, self.bootstrap, topic, partitioner], PATIENCE_S, lines)
        return list(map(int, placed.split()))

    def python_consume(self, *topics):
        return self.consume_by("kafka_python_consume.py", topics)

    def librdkafka_consume(self, *topics):
        return self.consume_by("librdkafka_consume.py", topics)

    def consume_by(self, script, topics):
        command = [python(), SUPPORT / script, self.bootstrap, PATIENCE_S, *topics]
        lines = run(command, 2 * PATIENCE_S)
        return [Consumed.parse(line) for line in lines.decode().splitlines()]

    def java_serialized(self, name, values):
        """For each of these bytes what Java's deserializer of that name makes of them, as text, and
        the bytes that its serializer makes of that."""
        lines = b"".join(base64.b64encode(value) + b"\n" for value in values)
        said = self.tell("serialized", name, stdin=lines).splitlines()
        decoded = (map(base64.b64decode, line.split("\t")) for line in said)
        return [(text.decode(), again) for text, again in decoded]


SET_TOPIC_CONFIG = """
import sys, time
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
)
bootstrap, topic, key, value = sys.argv[1:]
entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
client = AdminClient({"bootstrap.servers": bootstrap})
deadline = time.monotonic() + 120
while True:
    (done,) = client.incremental_alter_configs([resource], request_timeout=60).values()
    try:
        done.result(60)
        break
    except KafkaException:  # of a broker that has lost its controller for a moment
        if time.monotonic() > deadline:
            raise
        time.sleep(0.2)
"""


def python():
    """The interpreter that has the judges' packages."""
    return Path(os.environ["PYTHON_ENV"]) / "bin" / "python"


def fresh(name):
    """A topic's name that no other run has used."""
    return "%s-%s" % (name, uuid.uuid4().hex[:8])


def cluster():
    """The running cluster; skips the module where there can be none."""
    missing = Path(os.environ["KAFKA_MISSING"])
    if missing.exists():
        raise unittest.SkipTest(missing.read_text().strip())
    return Cluster(os.environ["KAFKA_DIR"])


# ---- Records ----


@dataclass(frozen=True)
class Record:
    topic: str
    value: Optional[bytes]
    key: Optional[bytes] = None
    headers: tuple = ()
    partition: int = -1
    timestamp: int = -1

    def frame(self):
        parts = [struct.pack("=iq", self.partition, self.timestamp)]
        parts += map(framed, (self.topic.encode(), self.key, self.value))
        parts.append(struct.pack("=i", len(self.headers)))
        for key, value in self.headers:
            parts += (framed(key), framed(value))
        return b"".join(parts)

    def content(self):
        return self.key, self.value, self.headers


def framed(data):
    return struct.pack("=i", -1) if data is None else struct.pack("=i", len(data)) + data


@dataclass(frozen=True)
class Consumed:
    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: str
    key: Optional[bytes]
    value: Optional[bytes]
    headers: tuple

    @classmethod
    def parse(cls, line):
        fields = json.loads(line)
        fields["key"], fields["value"] = unbase64(fields["key"]), unbase64(fields["value"])
        fields["headers"] = tuple(
            (unbase64(key), unbase64(value)) for key, value in fields["headers"]
        )
        return cls(**fields)

    def place(self):
        return self.topic, self.partition, self.offset

    def content(self):
        return self.key, self.value, self.headers


@dataclass(frozen=True)
class Batch:
    """The part of a record batch's header (magic 2) that tells who wrote it, and how."""

    base_offset: int
    count: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    codec: int  # 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd
    length: int  # of all of it, as it lies there

    @classmethod
    def parse_all(cls, data):
        batches, at = [], 0
        while len(data) - at >= 61:  # what was allocated in advance is 0
            base_offset, length = struct.unpack_from(">qi", data, at)
            if length == 0:
                break
            (magic,) = struct.unpack_from(">b", data, at + 16)
            assert magic == 2, magic
            identity = struct.unpack_from(">qhi", data, at + 43)
            (attributes,) = struct.unpack_from(">h", data, at + 21)
            (count,) = struct.unpack_from(">i", data, at + 57)
            batches.append(cls(base_offset, count, *identity, attributes & 7, 12 + length))
            at += 12 + length
        return batches


def unbase64(text):
    return None if text is None else base64.b64decode(text)


def by_partition(consumed):
    """Each (topic, partition)'s records in the order of their offsets."""
    logs = {}
    for record in sorted(consumed, key=Consumed.place):
        logs.setdefault((record.topic, record.partition), []).append(record)
    return logs


# ---- The program that produces ----


@dataclass(frozen=True)
class Outcome:
    kind: str  # delivered, failed, refused
    status: str = "PRODUCER_OK"
    flags: int = 0
    topic: str = ""
    partition: int = -1
    offset: int = -1
    append_time: int = -1
    stage: int = 0
    attempts: int = 0
    message: str = ""

    def place(self):
        return self.topic, self.partition, self.offset


def options(config, **more):
    """max_block_ms=5 as the programs take it: -X max.block.ms=5."""
    pairs = ["%s=%s" % (key.replace("_", "."), value) for key, value in (config | more).items()]
    return [word for pair in pairs for word in ("-X", pair)]


class Produce:
    """A running `produce`. Records go in while outcomes come out; `outcomes` is by tag, from 0."""

    def __init__(self, bootstrap, *flags, **config):
        config = {**PATIENT, **config, "bootstrap_servers": bootstrap}
        command = [os.environ["PRODUCE"], *flags, *options(config)]
        self.log = log_path("produce")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self.records = []
        self.outcomes = {}
        self.closed = None
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def read(self):
        for line in self.process.stdout:
            fields = line.decode().rstrip("\n").split("\t")
            with self.changed:
                self.take(*fields)
                self.changed.notify_all()
        with self.changed:
            self.closed = self.closed or ()
            self.changed.notify_all()

    def take(self, kind, *fields):
        if kind == "closed":
            self.closed = dict(
                zip(("aborted", "accepted", "acknowledged", "failed", "pending"), map(int, fields))
            )
            return
        tag = int(fields[0])
        if tag in self.outcomes:
            raise AssertionError(
                "two outcomes of record %d: %s, %s" % (tag, self.outcomes[tag], fields)
            )
        if kind == "delivered":
            topic, partition, offset, append_time = fields[1:]
            outcome = Outcome(
                kind,
                topic=topic,
                partition=int(partition),
                offset=int(offset),
                append_time=int(append_time),
            )
        elif kind == "failed":
            topic, partition, status, flags, stage, attempts, message = fields[1:]
            outcome = Outcome(
                kind,
                status,
                int(flags),
                topic,
                int(partition),
                stage=int(stage),
                attempts=int(attempts),
                message=message,
            )
        else:
            status, flags, message = fields[1:]
            outcome = Outcome(kind, status, int(flags), message=message)
        self.outcomes[tag] = outcome

    def send(self, record):
        self.records.append(record)
        self.process.stdin.write(record.frame())

    def flush(self):
        """producer_flush() of what was sent so far. All of it has an outcome then."""
        self.process.stdin.write(struct.pack("=i", FLUSH))
        self.wait_for(len(self.records))

    def wait_for(self, count, timeout=PATIENCE_S):
        """Until so many records have an outcome. Nothing must have failed so far."""
        self.process.stdin.flush()
        deadline = time.monotonic() + timeout
        with self.changed:
            while len(self.outcomes) < count:
                if self.closed is not None:
                    raise AssertionError(
                        "produce ended after %d outcomes of %d" % (len(self.outcomes), count)
                    )
                if (
                    not self.changed.wait(deadline - time.monotonic())
                    and time.monotonic() >= deadline
                ):
                    raise AssertionError(
                        "%d outcomes of %d after %g s" % (len(self.outcomes), count, timeout)
                    )

    def finish(self, timeout=3 * PATIENCE_S):
        """Closes the input and waits for the end. Every record has one outcome, and the counters
        say the same."""
        self.process.stdin.close()
        code = self.process.wait(timeout)
        self.reader.join(timeout)
        if code:
            raise AssertionError("produce exited with %d" % code)
        kinds = [outcome.kind for outcome in self.outcomes.values()]
        lost = len(self.records) - len(kinds)
        if lost:
            raise AssertionError("%d of %d records have no outcome" % (lost, len(self.records)))
        counted = {
            "acknowledged": kinds.count("delivered"),
            "failed": kinds.count("failed"),
            "pending": 0,
            "aborted": 0,
            "accepted": kinds.count("delivered") + kinds.count("failed"),
        }
        if self.closed != counted and "--sync" not in self.process.args:
            raise AssertionError("the counters are %s, the outcomes %s" % (self.closed, counted))
        return self.outcomes


def produce(bootstrap, records, *flags, timeout=3 * PATIENCE_S, **config):
    """Sends all the records; the outcomes in their order."""
    with Produce(bootstrap, *flags, **config) as producing:
        for record in records:
            producing.send(record)
        outcomes = producing.finish(timeout)
        return [outcomes[tag] for tag in range(len(records))]


class Feeder:
    """Sends numbered records to all partitions in turn, as fast as outcomes come back, until
    stopped. At most `outstanding` have none."""

    # From then on it is slow: how long a fault takes is up to the machine, and all is read back.
    MANY = 200_000

    def __init__(self, producing, topic, partitions, outstanding):
        self.producing, self.topic = producing, topic
        self.partitions, self.outstanding = partitions, outstanding
        self.stopping = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number, half = 0, self.outstanding // 2
        try:
            while not self.stopping.is_set():
                for _ in range(half):
                    self.producing.send(
                        Record(self.topic, b"%d" % number, partition=number % self.partitions)
                    )
                    number += 1
                self.producing.wait_for(number - half)
                if number > self.MANY:
                    self.stopping.wait(0.1)
        except Exception as failure:
            self.failure = failure

    def stop(self):
        self.stopping.set()
        self.thread.join(3 * PATIENCE_S)
        if self.failure:
            raise self.failure


def while_sending(producing, topic, partitions, outstanding, faults):
    """Runs faults(topic, more) while records flow, with at most `outstanding` without an outcome.
    `more()` waits for outcomes of records that were sent after it was called. Returns the outcomes
    of all records, by tag."""
    feeder = Feeder(producing, topic, partitions, outstanding)
    try:

        def more():
            producing.wait_for(len(producing.records) + 2 * outstanding)

        more()
        faults(topic, more)
        more()
    finally:
        feeder.stop()
    return producing.finish()


def has_connection(pid):
    """Whether a process has a TCP connection, be it one that the other end has closed."""
    sockets = set()
    for descriptor in Path("/proc/%d/fd" % pid).iterdir():
        with contextlib.suppress(FileNotFoundError):
            sockets.add(os.readlink(descriptor))
    rows = Path("/proc/%d/net/tcp" % pid).read_text().splitlines()[1:]
    return any(
        row[3] in (ESTABLISHED, CLOSE_WAIT) and "socket:[%s]" % row[9] in sockets
        for row in map(str.split, rows)
    )


# ---- Running a module ----


# What was logged while the present test ran.
logs = []


def log_path(name):
    """A new file. It stays where the cluster's own logs are until the next cluster is started."""
    directory = Path(os.environ["KAFKA_DIR"]) / "left"
    directory.mkdir(parents=True, exist_ok=True)
    logs.append(directory / ("%s-%d-%d.log" % (name, os.getpid(), len(list(directory.iterdir())))))
    return logs[-1]


class Result(unittest.TextTestResult):
    """Shows the ends of the logs of a test that failed, and of the cluster's."""

    def startTest(self, test):
        logs.clear()
        super().startTest(test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.show_logs()

    def addError(self, test, error):
        super().addError(test, error)
        self.show_logs()

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.show_logs()

    def show_logs(self):
        for log in logs + sorted(Path(os.environ["KAFKA_DIR"]).glob("node-*/log")):
            self.stream.writeln("---- %s\n%s\n----" % (log, tail(log.read_bytes(), 2000)))


def main():
    """unittest.main() under the project's rule: what can't run says so in one line, and under CI
    that is a failure."""
    runner = unittest.TextTestRunner(resultclass=Result, verbosity=2)
    program = unittest.main(module="__main__", exit=False, testRunner=runner)
    result = program.result
    if not result.wasSuccessful():
        sys.exit(1)
    if result.skipped:
        name = Path(sys.argv[0]).stem
        print("skipped: %s: %s" % (name, result.skipped[0][1]))
        sys.exit(1 if os.environ.get("CI") == "true" else 77)
