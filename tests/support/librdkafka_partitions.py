"""usage: librdkafka_partitions.py BOOTSTRAP TOPIC PARTITIONER < keys

Sends a record of each key with librdkafka and prints where its partitioner put it. A key is a line
of base64; a line of "-" is a null key.
"""

import base64
import sys

from confluent_kafka import Producer


def main(bootstrap, topic, partitioner):
    lines = sys.stdin.read().split("\n")[:-1]
    placed = [None] * len(lines)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": partitioner,
            "sticky.partitioning.linger.ms": 0,
        }
    )

    def delivered(index):
        def note(error, message):
            placed[index] = "failed: %s" % error if error else message.partition()

        return note

    for index, line in enumerate(lines):
        key = None if line == "-" else base64.b64decode(line)
        producer.produce(topic, value=b"", key=key, on_delivery=delivered(index))
        producer.poll(0)
    producer.flush(240)
    for partition in placed:
        print(partition)


main(*sys.argv[1:])
