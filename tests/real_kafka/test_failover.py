"""Three brokers that come and go while records are sent: replication 3, two in sync wanted,
acks=all, idempotent. Nothing is lost, nothing is there twice, and each partition is in order."""

import time
import unittest

import harness

PARTITIONS = 3
# Records without an outcome: enough to keep batches in flight, few enough that a fault meets all.
OUTSTANDING = 300
# Small batches that do not wait: several of a partition are in flight.
CONFIG = dict(acks="all", request_timeout_ms=5_000, linger_ms=0, batch_size=256)


def setUpModule():
    global cluster
    cluster = harness.cluster()


class Failover(unittest.TestCase):
    def tearDown(self):
        cluster.revive()

    def while_sending(self, faults, **config):
        """Runs faults(topic, more) while records flow, then reads all of them back."""
        topic = cluster.create_topic("failover", PARTITIONS, min_insync_replicas=2)
        with harness.Produce(cluster.bootstrap, **dict(CONFIG, **config)) as producing:
            outcomes = harness.while_sending(producing, topic, PARTITIONS, OUTSTANDING, faults)
            records = producing.records
        cluster.tell("wait-in-sync")
        self.check(topic, records, outcomes)

    def check(self, topic, records, outcomes):
        failed = [outcome for outcome in outcomes.values() if outcome.kind != "delivered"]
        self.assertEqual(failed, [])
        logs = harness.by_partition(cluster.java_consume(topic))
        at = {record.place(): record.value for log in logs.values() for record in log}
        for tag, record in enumerate(records):
            # A broker that was restarted may know a batch and not where it is.
            if outcomes[tag].offset >= 0:
                self.assertEqual(
                    at.get(outcomes[tag].place()),
                    record.value,
                    "record %d was acknowledged at that offset" % tag,
                )
        for number in range(PARTITIONS):
            log = [int(record.value) for record in logs[topic, number]]
            self.assertEqual(
                log, list(range(number, len(records), PARTITIONS)), "partition %d" % number
            )
        print("%d records, each once" % len(records))

    def test_leaders_move(self):
        def faults(topic, more):
            for turn in range(3):
                cluster.move_leaders(topic, turn, more)

        self.while_sending(faults)

    def test_a_broker_is_killed_and_restarted(self):
        def faults(topic, more):
            victim = cluster.leader(topic, 0)
            cluster.tell("kill", victim)
            more()  # in all partitions: another leads in its place
            cluster.tell("restart", victim, "--in-sync")
            more()

        self.while_sending(faults)

    def test_too_few_replicas_are_in_sync_for_a_while(self):
        def faults(topic, more):
            leader = cluster.leader(topic, 0)
            followers = [node for node in (1, 2, 3) if node != leader]
            for node in followers:
                cluster.tell("kill", node)
            deadline = time.monotonic() + harness.PATIENCE_S
            while len(cluster.describe(topic)[0]["in_sync"]) > 1:
                self.assertLess(time.monotonic(), deadline, "the killed brokers are not missed")
            for node in followers:
                cluster.tell("restart", node)
            cluster.tell("wait-in-sync")
            more()

        self.while_sending(faults)

    def test_every_broker_is_restarted_in_turn(self):
        def faults(topic, more):
            for node in (1, 2, 3):
                cluster.tell("term", node)
                more()
                cluster.tell("restart", node, "--in-sync")
                more()

        self.while_sending(faults)

    def test_a_broker_freezes(self):
        def faults(topic, more):
            victim = cluster.leader(topic, 0)
            cluster.tell("pause", victim)
            try:
                more()
            finally:
                cluster.tell("resume", victim)
            cluster.tell("wait-in-sync")
            more()

        self.while_sending(faults, request_timeout_ms=1_500)


if __name__ == "__main__":
    harness.main()
