"""acks 0, 1 and all; topics that the broker creates when they are first used."""

import unittest

import harness
from harness import Record


def setUpModule():
    global cluster
    cluster = harness.cluster()


class Acks(unittest.TestCase):
    def send(self, acks):
        topic = cluster.create_topic("acks-%s" % acks, 3)
        records = [Record(topic, b"%d" % number, b"%d" % (number % 100)) for number in range(5000)]
        # Nobody promises that what is sent again for want of an answer is there once.
        outcomes = harness.produce(
            cluster.bootstrap, records, acks=acks, request_timeout_ms=harness.NEVER_MS
        )
        self.assertEqual({outcome.kind for outcome in outcomes}, {"delivered"})
        read = cluster.java_consume(topic, count=len(records))
        self.assertEqual(
            sorted(record.value for record in read), sorted(record.value for record in records)
        )
        for log in harness.by_partition(read).values():
            numbers = [int(record.value) for record in log]
            self.assertEqual(numbers, sorted(numbers), "the order of a partition")
        return outcomes, read

    def check_offsets(self, outcomes, read):
        at = {record.place(): int(record.value) for record in read}
        self.assertEqual([at[outcome.place()] for outcome in outcomes], list(range(len(outcomes))))

    def test_acks_0_knows_no_offsets_and_loses_nothing(self):
        outcomes, _ = self.send("0")
        self.assertEqual({outcome.offset for outcome in outcomes}, {-1})

    def test_acks_1(self):
        self.check_offsets(*self.send("1"))

    def test_acks_all(self):
        self.check_offsets(*self.send("all"))


class AutoCreation(unittest.TestCase):
    def test_an_unknown_topic_is_created(self):
        topic = harness.fresh("auto-created")
        records = [Record(topic, b"%d" % number, b"%d" % number) for number in range(100)]
        outcomes = harness.produce(cluster.bootstrap, records)
        self.assertEqual({outcome.kind for outcome in outcomes}, {"delivered"}, outcomes[0])
        self.assertEqual(len(cluster.describe(topic)), 3, "num.partitions of the broker")
        read = cluster.java_consume(topic)
        self.assertEqual(
            sorted(record.value for record in read), sorted(record.value for record in records)
        )

    def test_several_unknown_topics_at_once(self):
        topics = [harness.fresh("auto-created") for _ in range(5)]
        records = [Record(topic, topic.encode()) for topic in topics * 20]
        outcomes = harness.produce(cluster.bootstrap, records)
        self.assertEqual({outcome.kind for outcome in outcomes}, {"delivered"}, outcomes[0])
        read = cluster.java_consume(*topics)
        self.assertEqual(len(read), len(records))
        for record in read:
            self.assertEqual(record.value, record.topic.encode())


if __name__ == "__main__":
    harness.main()
