"""What interceptors and serializers write, as Java's deserializers and kafka-python read it."""

import re
import struct
import unittest

import harness
from harness import Record
from test_examples import run_example

JAVA = "org.apache.kafka.common.serialization."
UUID = "123e4567-e89b-12d3-a456-426614174000"

# By name: the class in Java, then pairs of what lies in C's memory and what Java says it is.
SERIALIZERS = {
    "bytes": ("ByteArray", [(b"\xff\x00", None)]),
    "string": ("String", [("grün".encode(), "grün"), (b"", "")]),
    "int16": ("Short", [(struct.pack("=h", n), str(n)) for n in (0, 258, -2, -(1 << 15))]),
    "int32": ("Integer", [(struct.pack("=i", n), str(n)) for n in (0, 16909060, -2, -(1 << 31))]),
    "int64": ("Long", [(struct.pack("=q", n), str(n)) for n in (0, 1 << 40, -2, -(1 << 63))]),
    "float": ("Float", [(struct.pack("=f", n), str(n)) for n in (0.0, 1.5, -2.25)]),
    "double": ("Double", [(struct.pack("=d", n), str(n)) for n in (0.0, 0.1, -2.25)]),
    "uuid": (
        "UUID",
        [(bytes.fromhex(UUID.replace("-", "")), UUID), (UUID.upper().encode(), UUID)],
    ),
    "boolean": ("Boolean", [(b"\x00", "false"), (b"\x01", "true")]),
}


def setUpModule():
    global cluster
    cluster = harness.cluster()


def by_topic(records):
    """Key, value and headers of each, in the order of the one partition that each topic has."""
    found = {}
    for record in records:
        found.setdefault(record.topic, []).append(record.content())
    return found


class Serializers(unittest.TestCase):
    def test_java_reads_what_was_meant_and_would_write_the_same_bytes(self):
        topics = {}
        for name, (java, values) in SERIALIZERS.items():
            topic = topics[name] = cluster.create_topic("plugs")
            records = [Record(topic, data, key=data) for data, _ in values]
            # Java's name of the class for the key, ours for the value.
            names = {"key.serializer": JAVA + java + "Serializer", "value.serializer": name}
            outcomes = harness.produce(cluster.bootstrap, records, **names)
            self.assertEqual({outcome.kind for outcome in outcomes}, {"delivered"}, name)
        read = by_topic(cluster.java_consume(*topics.values()))
        judged = by_topic(cluster.python_consume(*topics.values()))
        for name, (java, values) in SERIALIZERS.items():
            with self.subTest(name):
                stored = read[topics[name]]
                self.assertEqual([key for key, _, _ in stored], [value for _, value, _ in stored])
                self.assertEqual(stored, judged[topics[name]])
                said = cluster.java_serialized(java, [value for _, value, _ in stored])
                self.assertEqual(len(said), len(values))
                for (_, meant), (_, value, _), (text, again) in zip(values, stored, said):
                    self.assertEqual(again, value)
                    if meant is not None:
                        self.assertEqual(text, meant)

    def test_null_is_null_in_java(self):
        topic = cluster.create_topic("plugs")
        keys = {"key.serializer": "void", "value.serializer": "int64"}
        outcomes = harness.produce(cluster.bootstrap, [Record(topic, None)], **keys)
        self.assertEqual(outcomes[0].kind, "delivered")
        self.assertEqual([r.content() for r in cluster.java_consume(topic)], [(None, None, ())])

    def test_a_wrong_input_is_refused_and_the_others_arrive(self):
        topic = cluster.create_topic("plugs")
        records = [Record(topic, b'{"n": %d}' % n if n % 3 else b'{"n": }') for n in range(30)]
        outcomes = harness.produce(cluster.bootstrap, records, **{"value.serializer": "json"})
        for n, outcome in enumerate(outcomes):
            self.assertEqual(outcome.kind, "delivered" if n % 3 else "refused")
        self.assertEqual(
            [record.value for record in cluster.java_consume(topic)],
            [record.value for n, record in enumerate(records) if n % 3],
        )


class Examples(unittest.TestCase):
    def test_every_record_has_a_traceparent_of_its_own(self):
        topics = [cluster.create_topic("traced") for _ in range(2)]
        code, out, err = run_example("INTERCEPTORS", *topics, bootstrap=cluster.bootstrap)
        self.assertEqual((code, err), (0, ""), out)
        for topic in topics:
            self.assertRegex(out, r"(?m)^%s +10 +10 +0 +0$" % topic)
        read = cluster.java_consume(*topics)
        self.assertEqual(len(read), 20)
        traces = set()
        for record in read:
            ((key, value),) = record.headers
            self.assertEqual(key, b"traceparent")
            traces.add(re.fullmatch(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-01", value).group(1))
        self.assertEqual(len(traces), 20)

    def test_orders_arrive_as_they_were_encoded(self):
        topics = [cluster.create_topic("orders") for _ in range(2)]
        code, out, err = run_example("SERIALIZERS", *topics, bootstrap=cluster.bootstrap)
        self.assertEqual((code, err), (0, ""), out)
        protobuf, thrift = (cluster.java_consume(topic) for topic in topics)
        for read in (protobuf, thrift):
            keys = cluster.java_serialized("Long", [record.key for record in read])
            self.assertEqual([text for text, _ in keys], ["150", "-1"])
        self.assertEqual(protobuf[1].value.hex(), "08" + "ff" * 9 + "01")
        self.assertEqual(thrift[1].value.hex(), "16011800190c1700000000000000001200")


if __name__ == "__main__":
    harness.main()
