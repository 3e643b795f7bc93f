"""Four threads send through one handle while, every few seconds, something happens to a broker:
killed, frozen, restarted, or its partitions' leaders moved. Each time all replicas must be in sync
again before the next. Then Java's consumer reads everything and chaos_checker.py judges.

From the environment, beside what harness.py takes:
  CHAOS_SECONDS   how long faults go on (default 180); the run with the short timeout takes a third
  CHAOS_RATE      records per second (default 2000: what three JVMs and a reader on two cores bear)
  CHAOS_SEED      which faults, and when (default: another each time; it is printed)
  CHAOS_DIR       where outcomes and the library's log are left, for a look at what went wrong
  CHAOS_CONFIG    more KEY=VALUE pairs of the producer's, to see the judge find something:
                  enable.idempotence=false acks=all
"""

import os
import queue
import random
import subprocess
import threading
import time
import unittest
from pathlib import Path

import harness
from chaos_checker import Checker, Stream

SECONDS = float(os.environ.get("CHAOS_SECONDS") or 180)
RATE = float(os.environ.get("CHAOS_RATE") or 2000)
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
DIRECTORY = Path(os.environ["CHAOS_DIR"])

PERIOD_S = 5
BROKERS = (1, 2, 3)
PARTITIONS = 32  # of each of the two topics: chaos.c has it too
# A frozen broker whose session (1.5 s) holds stays the leader: it reads what it was sent, late.
BLINK_S, FREEZE_S = (1.1, 1.45), (2.5, 4.5)
DOWN_S = (0, 2.5)
# A fault waits so long for so many records in flight; after that, one must do.
AIM_S, WORTH_IT = 1, 100
# How long a busy machine may take to let a short deadline pass.
MISSED_S = 30

# Batches of a few records that do not wait: several of a partition are in flight. Requests time out
# before a frozen broker is back.
CONFIG = {
    "batch.size": "512",
    "linger.ms": "0",
    "request.timeout.ms": "1000",
    **{key.replace("_", "."): str(value) for key, value in harness.PATIENT.items()},
}


def least_faults(seconds):
    return max(1, seconds // 30)


def setUpModule():
    global cluster
    cluster = harness.cluster()


class Sender:
    """The running program."""

    def __init__(self, name, topics, config):
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        self.outcomes = DIRECTORY / (name + ".outcomes")
        self.log = DIRECTORY / (name + ".log")
        config = dict(config, **{"bootstrap.servers": cluster.bootstrap})
        for pair in os.environ.get("CHAOS_CONFIG", "").split():
            key, value = pair.split("=", 1)
            config[key] = value
        command = [os.environ["CHAOS"], str(self.outcomes), str(RATE), *topics]
        command += [word for pair in config.items() for word in ("-X", "%s=%s" % pair)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self.lines = queue.SimpleQueue()
        self.ended = threading.Event()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.decode().split())
        self.ended.set()
        self.lines.put(None)

    def next_line(self, timeout=harness.PATIENCE_S):
        fields = self.lines.get(timeout=timeout)
        if fields is None:
            code = self.process.wait(harness.PATIENCE_S)
            raise AssertionError("chaos ended with %d: %s" % (code, self.tail()))
        return fields

    def tail(self):
        return harness.tail(self.log.read_bytes())

    def counters(self):
        """accepted, acknowledged, failed, pending"""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        word, *counters = self.next_line()
        assert word == "counters", word
        return list(map(int, counters))

    def hold(self, seconds):
        """Lets time pass; nothing is waited for but that the program ends before its time."""
        if self.ended.wait(max(0, seconds)):
            self.next_line()

    def finish(self, timeout=4 * harness.PATIENCE_S):
        """Stops it; (what each stream sent, the last counters with those aborted in front)."""
        self.process.stdin.close()
        sent = []
        while True:
            word, *fields = self.next_line(timeout)
            if word == "closed":
                break
            sent.append(fields)
        if self.process.wait(timeout):
            raise AssertionError("chaos ended with %d: %s" % (self.process.returncode, self.tail()))
        self.reader.join(timeout)
        return sent, list(map(int, fields))

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()


class Faults:
    """What happens to brokers, chosen by a seed. One after the other, each kind as often."""

    def __init__(self, sender, topics, seed, failures_allowed):
        self.sender, self.topics, self.random = sender, topics, random.Random(seed)
        self.failures_allowed = failures_allowed
        self.kinds = [self.kill, self.freeze, self.blink, self.restart, self.vacate, self.strand]
        self.bag = []
        self.began = time.monotonic()
        self.counts = {kind.__name__: 0 for kind in self.kinds}
        self.in_flight = []

    def run(self, seconds):
        """For that time, and until there were as many as a busy machine manages in it: then it
        takes longer."""
        deadline, at_least = self.began + seconds, least_faults(seconds)
        self.sender.hold(1)
        while time.monotonic() < deadline or sum(self.counts.values()) < at_least:
            at = time.monotonic()
            if not self.bag:
                self.bag = self.random.sample(self.kinds, len(self.kinds))
            fault, victim = self.bag.pop(), self.victim()
            pending = self.aim()
            fault(victim)
            cluster.tell("wait-in-sync")
            now = time.monotonic()
            print(
                "%s %6.1f s: %-7s broker %d, %d records without outcome; in sync after %.1f s"
                % (
                    time.strftime("%H:%M:%S", time.gmtime()),
                    at - self.began,
                    fault.__name__,
                    victim,
                    pending,
                    now - at,
                ),
                flush=True,
            )
            self.counts[fault.__name__] += 1
            self.in_flight.append(pending)
            self.sender.hold(PERIOD_S - (now - at))

    def aim(self):
        """Waits a moment for a volley: how many records have no outcome."""
        began = time.monotonic()
        while True:
            pending, waited = self.sender.counters()[3], time.monotonic() - began
            if pending >= (WORTH_IT if waited < AIM_S else 1) or waited > harness.PATIENCE_S:
                return pending

    def victim(self):
        """A broker that leads something; the more, the likelier."""
        leaders = [
            partition["leader"]
            for topic in self.topics
            for partition in cluster.describe(topic).values()
            if partition["leader"] > 0
        ]
        return self.random.choice(leaders)

    def kill(self, node):
        cluster.signal("kill", node)
        self.sender.hold(self.random.uniform(*DOWN_S))
        cluster.tell("restart", node)

    def frozen(self, node, seconds):
        cluster.signal("pause", node)
        try:
            self.sender.hold(self.random.uniform(*seconds))
        finally:
            cluster.signal("resume", node)

    def freeze(self, node):
        """Where deadlines are shorter than that, until one has passed."""
        failed = self.sender.counters()[2]
        cluster.signal("pause", node)
        try:
            self.sender.hold(self.random.uniform(*FREEZE_S))
            deadline = time.monotonic() + MISSED_S
            while self.failures_allowed and self.sender.counters()[2] == failed:
                if time.monotonic() > deadline:
                    break
                self.sender.hold(0.05)
        finally:
            cluster.signal("resume", node)

    def blink(self, node):
        self.frozen(node, BLINK_S)

    def restart(self, node):
        cluster.tell("restart", node)

    def vacate(self, node):
        cluster.tell("vacate", node)

    def strand(self, node):
        """It appends what it cannot replicate, since a follower is frozen, and then has to go:
        what it answers then sounds like a refusal."""
        frozen, heir = self.random.sample([one for one in BROKERS if one != node], 2)
        moving = threading.Thread(
            target=cluster.tell, args=("vacate", node, "--to", heir), daemon=True
        )
        cluster.signal("pause", frozen)
        try:
            moving.start()
            self.sender.hold(self.random.uniform(*BLINK_S))
        finally:
            cluster.signal("resume", frozen)
        moving.join(3 * harness.PATIENCE_S)


class Chaos(unittest.TestCase):
    def chaos(self, name, seconds, failures_allowed, **config):
        """Runs faults while records flow, and judges: the checker and the faults."""
        print("CHAOS_SEED=%d CHAOS_SECONDS=%g CHAOS_RATE=%g" % (SEED, SECONDS, RATE), flush=True)
        topics = [
            cluster.create_topic("%s-%s" % (name, kind), PARTITIONS, min_insync_replicas=2)
            for kind in ("placed", "keyed")
        ]
        sender = Sender(name, topics, dict(CONFIG, **config))
        try:
            faults = Faults(sender, topics, SEED, failures_allowed)
            faults.run(seconds)
            began = time.monotonic()
            sent, (aborted, accepted, acknowledged, failed, pending) = sender.finish()
            print("flushed and closed in %.1f s" % (time.monotonic() - began))
        finally:
            sender.kill()
        checker = Checker(self.streams(sent, topics), failures_allowed)
        with open(sender.outcomes) as outcomes:
            for line in outcomes:
                tag, status, flags, topic, partition, offset, message = line.split("\t")
                checker.outcome(
                    int(tag),
                    status,
                    int(flags),
                    topic,
                    int(partition),
                    int(offset),
                    message.rstrip("\n"),
                )
        for record in cluster.java_stream(*topics, timeout=harness.PATIENCE_S + accepted // 5000):
            checker.record(record.topic, record.partition, record.offset, record.key, record.value)
        checker.finish()
        print(checker.summary())
        print("faults: %s; records in flight at each: %s" % (faults.counts, faults.in_flight))
        self.assertEqual(checker.found, {}, "CHAOS_SEED=%d; see %s" % (SEED, DIRECTORY))
        self.assertEqual(
            (aborted, accepted, acknowledged, failed, pending),
            (0, checker.acknowledged + checker.failed, checker.acknowledged, checker.failed, 0),
            "the counters and the outcomes",
        )
        self.check_it_was_a_test(checker, faults, seconds)
        return checker.failed, faults.counts

    def streams(self, sent, topics):
        """Where Java's producer puts a key is where records of that key belong."""
        placed, keyed = topics
        keys = [key.encode() for _, topic, _, key, _ in sent if topic == keyed]
        scratch = cluster.create_topic("chaos-keys", PARTITIONS)
        chosen = dict(zip(keys, cluster.java_partitions(scratch, keys)))
        return {
            int(number): Stream(
                topic,
                key.encode(),
                chosen.get(key.encode(), int(stated)),
                int(stated),
                int(count),
            )
            for number, topic, stated, key, count in sent
        }

    def check_it_was_a_test(self, checker, faults, seconds):
        """All partitions got records, faults of all kinds happened and met records in flight. With
        short deadlines a busy machine may lose all records of a partition."""
        sent_to = {(one.topic, one.partition) for one in checker.streams.values() if one.count}
        self.assertEqual(len(sent_to), 2 * PARTITIONS)
        total = sum(faults.counts.values())
        self.assertGreaterEqual(total, least_faults(seconds), faults.counts)
        if total >= len(faults.kinds):
            self.assertTrue(all(faults.counts.values()), faults.counts)
        met = sum(pending > 0 for pending in faults.in_flight)
        self.assertGreater(met, total // 2, "faults that met records in flight")

    def test_nothing_is_lost_duplicated_misplaced_or_disordered(self):
        self.chaos("chaos", SECONDS, failures_allowed=False)

    def test_deadlines_shorter_than_the_faults(self):
        failed, faults = self.chaos(
            "chaos-short", SECONDS / 3, failures_allowed=True, **{"delivery.timeout.ms": "1200"}
        )
        if faults["freeze"]:
            self.assertGreater(failed, 0, "no fault was longer than the deadline")


if __name__ == "__main__":
    harness.main()
