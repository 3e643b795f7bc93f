"""The idempotent producer, which is the default, and a broker that is restarted: the sequence goes
on where it was, and nothing is written twice. Run on every version of Kafka."""

import unittest

import harness
from harness import Record

RECORDS = 500
PARTITIONS = 3
# Records without an outcome: enough to keep batches in flight.
OUTSTANDING = 300
SMALL_BATCHES = dict(linger_ms=0, batch_size=256, request_timeout_ms=5_000)


def setUpModule():
    global cluster
    cluster = harness.cluster()


class Idempotence(unittest.TestCase):
    def tearDown(self):
        cluster.revive()

    def check_log(self, topic, partition, values, outcomes):
        """The log holds those records, once and in order, each where it was told to be if that is
        known, in batches whose sequence has neither a gap nor a second start."""
        log = harness.by_partition(cluster.java_consume(topic))[topic, partition]
        self.assertEqual([record.value for record in log], values)
        for record, outcome in zip(log, outcomes):
            self.assertIn(outcome.offset, (record.offset, -1), outcome)
        batches = cluster.batches(topic, partition)
        self.assertEqual(sum(batch.count for batch in batches), len(values))
        identities = {(batch.producer_id, batch.producer_epoch) for batch in batches}
        self.assertEqual(len(identities), 1, identities)
        self.assertGreaterEqual(batches[0].producer_id, 0, "no producer id: not idempotent")
        sequence = 0
        for batch in batches:
            self.assertEqual(batch.base_sequence, sequence, batch)
            sequence += batch.count
        return batches

    def test_two_flushes_with_a_restart_in_between(self):
        topic = cluster.create_topic("idempotent")
        with harness.Produce(cluster.bootstrap) as producing:
            for number in range(2 * RECORDS):
                producing.send(Record(topic, b"%d" % number))
                if number + 1 == RECORDS:
                    producing.flush()
                    self.assertEqual(len(producing.outcomes), RECORDS)
                    cluster.tell("restart", "1", "--in-sync")
            producing.flush()
            outcomes = producing.finish()
        values = [b"%d" % number for number in range(2 * RECORDS)]
        outcomes = [outcomes[tag] for tag in range(len(values))]
        self.assertEqual({one.kind for one in outcomes}, {"delivered"}, outcomes[0])
        self.check_log(topic, 0, values, outcomes)

    def while_sending(self, fault):
        topic = cluster.create_topic("idempotent", PARTITIONS)
        with harness.Produce(cluster.bootstrap, **SMALL_BATCHES) as producing:
            outcomes = harness.while_sending(
                producing, topic, PARTITIONS, OUTSTANDING, lambda *_: fault()
            )
            total = len(producing.records)
        self.assertEqual({one.kind for one in outcomes.values()}, {"delivered"})
        for partition in range(PARTITIONS):
            numbers = range(partition, total, PARTITIONS)
            batches = self.check_log(
                topic,
                partition,
                [b"%d" % number for number in numbers],
                [outcomes[number] for number in numbers],
            )
            self.assertGreater(len(batches), 5, "batches were meant to be small")

    def test_a_restart_while_records_are_in_flight(self):
        self.while_sending(lambda: cluster.tell("restart", "1", "--in-sync"))

    def test_a_kill_while_records_are_in_flight(self):
        def fault():
            cluster.signal("kill", "1")
            cluster.tell("restart", "1", "--in-sync")

        self.while_sending(fault)


if __name__ == "__main__":
    harness.main()
