"""Every kind of record, sent from C in every way of sending, read back by Java's consumer and by
kafka-python, and compared byte for byte."""

import random
import time
import unittest

import harness
from harness import Record

MB = 1 << 20
UNICODE = "schlüssel 鍵 🔑".encode()
ALL_BYTES = bytes(range(256))


def setUpModule():
    global cluster
    cluster = harness.cluster()


def interesting_records(topic):
    """Every combination of small keys, values and headers, then what is special in one of them."""
    keys = [None, b"", b"k", UNICODE, ALL_BYTES]
    values = [None, b"", b"v", UNICODE, ALL_BYTES]
    headers = [
        (),
        ((b"h", b"v"),),
        ((b"null", None), (b"empty", b"")),
        ((b"twice", b"1"), (b"other", b"-"), (b"twice", b"2"), (b"twice", b"2")),
        ((b"", b"an empty key"), (UNICODE, UNICODE), (b"bytes", ALL_BYTES)),
    ]
    records = [
        Record(topic, value, key, header) for key in keys for value in values for header in headers
    ]
    records.append(
        Record(topic, b"many headers", b"k", tuple((b"h%d" % n, b"x" * n) for n in range(300)))
    )
    now = int(time.time() * 1000)
    records += [
        Record(topic, b"timestamp", timestamp=at)
        for at in (0, 1, 999_999_999_999, now - 86_400_000, now + 60_000)
    ]
    records += [Record(topic, b"partition", b"k", partition=number) for number in (0, 1, 2)]
    return records


def sized_records(topic):
    """Values around every power of two (lengths of varints, of slabs, of batches) up to 1 MB, and a
    long key and header."""
    rng = random.Random(1)
    sizes = sorted(
        {
            size
            for power in range(21)
            for size in ((1 << power) - 1, 1 << power, (1 << power) + 1)
            if 0 < size <= MB
        }
    )
    records = [Record(topic, rng.randbytes(size), b"%d" % size) for size in sizes]
    records.append(Record(topic, b"long key", rng.randbytes(100_000)))
    records.append(Record(topic, b"long header", None, ((b"h" * 1000, rng.randbytes(100_000)),)))
    return records


class Records(unittest.TestCase):
    def check(self, records, outcomes, began, ended):
        """What the judges read is what was sent, at the place the delivery told."""
        topic = records[0].topic
        java, python = cluster.java_consume(topic), cluster.python_consume(topic)
        self.assertEqual(sorted(map(repr, java)), sorted(map(repr, python)), "the judges disagree")
        self.assertEqual(len(java), len(records))
        at = {record.place(): record for record in java}
        for record, outcome in zip(records, outcomes):
            self.assertEqual(outcome.kind, "delivered", outcome)
            read = at[outcome.place()]
            self.assertEqual(read.content(), record.content())
            if record.timestamp >= 0:
                self.assertEqual(read.timestamp, record.timestamp)
            else:
                self.assertTrue(began <= read.timestamp <= ended, (began, read.timestamp, ended))
            if record.partition >= 0:
                self.assertEqual(read.partition, record.partition)
            self.assertEqual(read.timestamp_type, "CreateTime")

    def send_and_check(self, records, *options, **config):
        began = int(time.time() * 1000)
        outcomes = harness.produce(cluster.bootstrap, records, *options, **config)
        self.check(records, outcomes, began, int(time.time() * 1000))

    def test_all_kinds_with_send_and_callback(self):
        self.send_and_check(interesting_records(cluster.create_topic("kinds", 3)))

    def test_all_kinds_with_send_and_poll(self):
        self.send_and_check(interesting_records(cluster.create_topic("kinds-poll", 3)), "--poll")

    def test_all_kinds_with_send_batch(self):
        self.send_and_check(interesting_records(cluster.create_topic("kinds-batch", 3)), "--batch")

    def test_all_kinds_with_send_sync(self):
        self.send_and_check(interesting_records(cluster.create_topic("kinds-sync", 3)), "--sync")

    def test_all_kinds_one_per_batch(self):
        self.send_and_check(
            interesting_records(cluster.create_topic("kinds-small", 3)), linger_ms=0, batch_size=1
        )

    def test_sizes_from_1_byte_to_1_megabyte(self):
        topic = cluster.create_topic("sizes", 3, max_message_bytes=2 * MB)
        self.send_and_check(sized_records(topic), max_request_size=2 * MB)

    def test_sizes_with_little_memory(self):
        topic = cluster.create_topic("sizes-memory", 3, max_message_bytes=2 * MB)
        self.send_and_check(sized_records(topic), max_request_size=2 * MB, buffer_memory=2 * MB)

    def test_a_topic_of_the_longest_name(self):
        topic = harness.fresh("longest") + "." * 100
        topic += "_" * (249 - len(topic))
        outcomes = harness.produce(cluster.bootstrap, [Record(topic, b"v")])
        self.assertEqual([outcome.kind for outcome in outcomes], ["delivered"], outcomes)
        self.assertEqual([record.value for record in cluster.java_consume(topic)], [b"v"])

    def test_log_append_time_is_reported(self):
        topic = cluster.create_topic("append-time", 1, message_timestamp_type="LogAppendTime")
        records = [Record(topic, b"%d" % n, timestamp=1000 + n) for n in range(10)]
        outcomes = harness.produce(cluster.bootstrap, records)
        for read in cluster.java_consume(topic):
            self.assertEqual(read.timestamp_type, "LogAppendTime")
            self.assertEqual(outcomes[int(read.value)].append_time, read.timestamp)

    def test_a_record_too_large_for_the_topic_fails_in_its_batch_alone(self):
        topic = cluster.create_topic("too-large", 1, max_message_bytes=1000)
        records = [Record(topic, b"a"), Record(topic, b"b" * 2000), Record(topic, b"c")]
        # Each in a batch of its own: what waits behind a batch in flight would grow into one.
        outcomes = harness.produce(cluster.bootstrap, records, "--sync")
        self.assertEqual(
            [outcome.kind for outcome in outcomes], ["delivered", "refused", "delivered"], outcomes
        )
        self.assertEqual(outcomes[1].status, "PRODUCER_ERR_MESSAGE_TOO_LARGE", outcomes[1])
        self.assertEqual(outcomes[1].flags & harness.MAYBE_PERSISTED, 0, outcomes[1])
        self.assertEqual([record.value for record in cluster.java_consume(topic)], [b"a", b"c"])

    def test_a_record_above_max_request_size_is_refused_with_a_sentence(self):
        topic = cluster.create_topic("above-limit")
        records = [Record(topic, b"a"), Record(topic, b"b" * 5000), Record(topic, b"c")]
        outcomes = harness.produce(cluster.bootstrap, records, max_request_size=4000)
        self.assertEqual(
            [outcome.kind for outcome in outcomes], ["delivered", "refused", "delivered"], outcomes
        )
        self.assertEqual(outcomes[1].status, "PRODUCER_ERR_MESSAGE_TOO_LARGE", outcomes[1])
        self.assertIn("max.request.size", outcomes[1].message)
        self.assertEqual([record.value for record in cluster.java_consume(topic)], [b"a", b"c"])


if __name__ == "__main__":
    harness.main()
