"""Records compressed with every codec, at its lowest, usual and highest level, in every framing,
sent from C and read back by Java's consumer, kafka-python and librdkafka, byte for byte."""

import json
import os
import random
import subprocess
import tempfile
import unittest
from pathlib import Path

import harness
from harness import Record
from test_records import ALL_BYTES, MB, UNICODE, interesting_records

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

# A name for each choice, the codec, and the keys that make it.
CHOICES = [
    ("none", "none", {}),
    ("gzip", "gzip", {}),
    ("gzip-1", "gzip", {"compression_gzip_level": 1}),
    ("gzip-9", "gzip", {"compression_gzip_level": 9}),
    ("snappy-raw", "snappy", {}),
    ("snappy-xerial", "snappy", {"snappy_framing": "xerial"}),
    ("lz4", "lz4", {}),
    ("zstd", "zstd", {}),
    ("zstd-fastest", "zstd", {"compression_zstd_level": -131072}),
    ("zstd-fast", "zstd", {"compression_level": -5}),
    ("zstd-22", "zstd", {"compression_zstd_level": 22}),
]


def setUpModule():
    global cluster
    cluster = harness.cluster()


def lines(rng, size):
    """Text that can be made smaller, and does not repeat itself."""
    text = b""
    while len(text) < size:
        event = {"id": rng.getrandbits(48), "user": rng.randint(0, 999), "name": "page-view"}
        text += json.dumps(event).encode() + b"\n"
    return text[:size]


def records_of(topic):
    """Small ones of every kind, what is empty, one byte and a megabyte; text and noise."""
    rng = random.Random(topic[:4])
    records = interesting_records(topic)
    records += [
        Record(topic, b""),
        Record(topic, None, None),
        Record(topic, b"1", b"k"),
        Record(topic, rng.randbytes(1)),
        Record(topic, rng.randbytes(1000), headers=((b"noise", rng.randbytes(1000)),)),
        Record(topic, UNICODE * 1000, ALL_BYTES * 40, ((b"h", ALL_BYTES * 300), (b"n", None))),
    ]
    for size in (65_000, 65_536, 131_072, 300_000, MB):
        records += [Record(topic, lines(rng, size), b"text"), Record(topic, rng.randbytes(size))]
    records += [Record(topic, lines(rng, 1024), b"%d" % n) for n in range(500)]
    return records


class Compression(unittest.TestCase):
    maxDiff = 2000

    def check(self, sent):
        """`sent`: the records of each topic. All judges read them as they were sent."""
        judges = [cluster.java_consume, cluster.python_consume, cluster.librdkafka_consume]
        for judge in judges:
            read = {topic: [] for topic in sent}
            for record in judge(*sent):
                read[record.topic].append(record)
            for topic, (records, outcomes) in sent.items():
                at = {record.place(): record for record in read[topic]}
                with self.subTest(judge=judge.__name__, topic=topic):
                    self.assertEqual(len(read[topic]), len(records))
                    for record, outcome in zip(records, outcomes):
                        self.assertEqual(outcome.kind, "delivered", outcome)
                        # Not assertEqual: megabytes are no help in a message.
                        same = at[outcome.place()].content() == record.content()
                        self.assertTrue(same, "%s is not what was sent" % outcome)

    def check_codecs(self, topic, codec, must=True):
        """What gets smaller is compressed, what does not is not."""
        batches = [batch for number in range(3) for batch in cluster.batches(topic, number)]
        codecs = {batch.codec for batch in batches}
        self.assertLessEqual(codecs, {0, CODECS[codec]}, topic)
        if must:
            self.assertIn(CODECS[codec], codecs, topic)
        for batch in batches:
            if batch.count == 1 and batch.length > MB:  # a megabyte of noise, alone
                self.assertEqual(batch.codec, 0, batch)

    def test_every_codec_level_and_framing(self):
        sent, codecs = {}, {}
        for name, codec, config in CHOICES:
            topic = cluster.create_topic(name, 3, max_message_bytes=2 * MB)
            records = records_of(topic)
            config = {"compression_type": codec, "max_request_size": 2 * MB, **config}
            sent[topic] = records, harness.produce(cluster.bootstrap, records, **config)
            codecs[topic] = codec
        self.check(sent)
        for topic, codec in codecs.items():
            with self.subTest(topic=topic):
                # The fastest of zstd's levels finds next to nothing.
                self.check_codecs(topic, codec, must="fastest" not in topic)

    def test_every_topic_has_its_own(self):
        """One producer, one codec by default and others for topics by name."""
        config = {"compression.type": "lz4", "max.request.size": 2 * MB}
        codecs = {}
        levels = [("none", None), ("gzip", 1), ("snappy", None), ("lz4", None), ("zstd", 19)]
        for codec, level in levels + [("zstd", -1)]:
            topic = cluster.create_topic("own.%s" % codec, 3, max_message_bytes=2 * MB)
            codecs[topic] = codec
            if codec != "lz4":
                config["topic.%s.compression.type" % topic] = codec
            if level is not None:
                config["topic.%s.compression.level" % topic] = level
        records = [record for group in zip(*map(records_of, codecs)) for record in group]
        flags = [word for key, value in config.items() for word in ("-X", "%s=%s" % (key, value))]
        outcomes = harness.produce(cluster.bootstrap, records, *flags)
        sent = {topic: ([], []) for topic in codecs}
        for record, outcome in zip(records, outcomes):
            sent[record.topic][0].append(record)
            sent[record.topic][1].append(outcome)
        self.check(sent)
        for topic, codec in codecs.items():
            with self.subTest(topic=topic):
                self.check_codecs(topic, codec)

    def test_compressed_batches_are_smaller(self):
        """Of text alone, with the ratio that each codec can do at least."""
        sizes = {}
        for codec in CODECS:
            topic = cluster.create_topic("size-%s" % codec)
            rng = random.Random(1)
            records = [Record(topic, lines(rng, 1024)) for _ in range(4000)]
            # Batches are full, however long it takes to fill one.
            outcomes = harness.produce(
                cluster.bootstrap, records, compression_type=codec, linger_ms=harness.NEVER_MS
            )
            self.assertTrue(all(outcome.kind == "delivered" for outcome in outcomes))
            batches = cluster.batches(topic, 0)
            self.assertEqual({batch.codec for batch in batches}, {CODECS[codec]}, codec)
            sizes[codec] = sum(batch.length for batch in batches)
        for codec, most in [("gzip", 0.35), ("snappy", 0.6), ("lz4", 0.6), ("zstd", 0.35)]:
            self.assertLess(sizes[codec], most * sizes["none"], sizes)

    @unittest.skipUnless("DEAD_LETTERS" in os.environ, "built without examples")
    def test_failed_records_of_compressed_batches_come_back_whole(self):
        """What the broker refused is decompressed for who sends it again."""
        rng = random.Random(2)
        values = [rng.choice(("a", "bc")) * 40 + "%d" % n for n in range(200)]
        for codec in sorted(CODECS):
            topic = cluster.create_topic("refused-%s" % codec, 1, max_message_bytes=100)
            with tempfile.TemporaryDirectory() as folder, self.subTest(codec=codec):
                letters = Path(folder) / "letters"
                command = [os.environ["DEAD_LETTERS"], letters]
                options = ["-X", "compression.type=%s" % codec, "-X", "linger.ms=60000"]
                environment = {**os.environ, "KAFKA_BOOTSTRAP": cluster.bootstrap}
                done = subprocess.run(
                    [*command, topic, *options],
                    input="\n".join(values) + "\n",
                    text=True,
                    capture_output=True,
                    timeout=3 * harness.PATIENCE_S,
                    env=environment,
                )
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertTrue(letters.exists())
                cluster.set_topic_config(topic, "max.message.bytes", "1000000")
                harness.run([*command, *options], env=environment)
                self.assertFalse(letters.exists())
                read = [record.value.decode() for record in cluster.java_consume(topic)]
                self.assertEqual(sorted(read), sorted(values))


if __name__ == "__main__":
    harness.main()
