"""Three brokers, twelve partitions: where keyed records go, that their order is kept, and what an
unknown topic gets. The brokers of this group create no topics by themselves."""

import collections
import random
import time
import unittest

import harness
from harness import Record

PARTITIONS = 12


def setUpModule():
    global cluster
    cluster = harness.cluster()


class Partitions(unittest.TestCase):
    def test_a_key_goes_where_java_puts_it(self):
        rng = random.Random(12)
        keys = [
            rng.randbytes(rng.choice((0, 1, 2, 3, 4, 5, 7, 8, 16, 33, 100, 1000)))
            for _ in range(1000)
        ]
        ours, javas = cluster.create_topic("keys", PARTITIONS), cluster.create_topic(
            "keys-java", PARTITIONS
        )
        outcomes = harness.produce(cluster.bootstrap, [Record(ours, b"", key) for key in keys])
        self.assertEqual(
            [outcome.partition for outcome in outcomes], cluster.java_partitions(javas, keys)
        )
        at = {record.place(): record.key for record in cluster.java_consume(ours)}
        self.assertEqual([at[outcome.place()] for outcome in outcomes], keys)

    def test_a_key_goes_where_librdkafka_puts_it(self):
        rng = random.Random(13)
        keys = [
            rng.randbytes(rng.choice((1, 2, 3, 4, 5, 7, 8, 16, 33, 100, 1000))) for _ in range(998)
        ]
        # What is left to chance there is not compared.
        chance = {
            "consistent": (),
            "consistent_random": (None, b""),
            "murmur2": (),
            "murmur2_random": (None,),
            "fnv1a": (),
            "fnv1a_random": (None,),
        }
        for partitioner, left_out in chance.items():
            with self.subTest(partitioner=partitioner):
                told = keys + [key for key in (None, b"") if key not in left_out]
                theirs = cluster.create_topic("keys-librdkafka", PARTITIONS)
                ours = cluster.create_topic("keys-ours", PARTITIONS)
                outcomes = harness.produce(
                    cluster.bootstrap,
                    [Record(ours, b"", key) for key in told],
                    partitioner=partitioner,
                )
                self.assertEqual(
                    [outcome.partition for outcome in outcomes],
                    cluster.librdkafka_partitions(theirs, partitioner, told),
                )

    def test_the_order_of_a_key_is_kept(self):
        topic = cluster.create_topic("order", PARTITIONS)
        rng = random.Random(5)
        keys = [b"key-%d" % number for number in range(200)]
        records = [Record(topic, b"%d" % number, rng.choice(keys)) for number in range(50_000)]
        outcomes = harness.produce(cluster.bootstrap, records, batch_size=4096)
        self.assertEqual({outcome.kind for outcome in outcomes}, {"delivered"})
        read = cluster.java_consume(topic)
        self.assertEqual(len(read), len(records), "records lost or written twice")
        logs = harness.by_partition(read)
        self.assertEqual(len(logs), PARTITIONS)
        places = collections.defaultdict(set)
        for (_, partition), log in logs.items():
            numbers = [int(record.value) for record in log]
            self.assertEqual(numbers, sorted(numbers), "the order of partition %d" % partition)
            for record in log:
                places[record.key].add(partition)
                self.assertEqual(records[int(record.value)].key, record.key)
        self.assertEqual(
            {len(partitions) for partitions in places.values()}, {1}, "a key in two partitions"
        )

    def test_records_without_key_use_all_partitions(self):
        topic = cluster.create_topic("no-keys", PARTITIONS)
        records = [Record(topic, b"%d" % number + b" " * 1000) for number in range(20_000)]
        outcomes = harness.produce(cluster.bootstrap, records, batch_size=16384)
        self.assertEqual({outcome.kind for outcome in outcomes}, {"delivered"})
        used = collections.Counter(outcome.partition for outcome in outcomes)
        self.assertEqual(len(used), PARTITIONS, used)
        self.assertEqual(cluster.ends(topic), dict(sorted(used.items())))


class UnknownTopic(unittest.TestCase):
    def test_it_times_out_with_a_sentence_that_names_it(self):
        topic = harness.fresh("nobody-made-this")
        began = time.monotonic()
        (outcome,) = harness.produce(cluster.bootstrap, [Record(topic, b"v")], max_block_ms=1500)
        took = time.monotonic() - began
        self.assertEqual(
            (outcome.kind, outcome.status), ("refused", "PRODUCER_ERR_TIMED_OUT"), outcome
        )
        self.assertIn(topic, outcome.message)
        self.assertEqual(outcome.flags & harness.MAYBE_PERSISTED, 0, outcome)
        # The default, which would hold without this setting, is a minute.
        self.assertTrue(1.5 <= took < 50, took)

    def test_one_made_while_it_is_waited_for_is_found(self):
        topic = harness.fresh("made-in-time")
        with harness.Produce(cluster.bootstrap) as producing:
            producing.send(Record(topic, b"v"))
            producing.process.stdin.flush()
            cluster.tell("topic", "create", topic, "--partitions", 1)
            outcomes = producing.finish()
        self.assertEqual(outcomes[0].kind, "delivered", outcomes[0])

    def test_an_explicit_partition_that_does_not_exist_is_refused(self):
        topic = cluster.create_topic("two-partitions", 2)
        records = [Record(topic, b"v", partition=number) for number in (0, 1, 2)]
        # The first two need the topic's metadata within that time.
        outcomes = harness.produce(cluster.bootstrap, records, max_block_ms=15_000)
        self.assertEqual(
            [outcome.kind for outcome in outcomes], ["delivered", "delivered", "refused"], outcomes
        )
        self.assertIn(topic, outcomes[2].message)


if __name__ == "__main__":
    harness.main()
