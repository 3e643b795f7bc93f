"""usage: kafka_python_consume.py BOOTSTRAP TIMEOUT_S TOPIC...

Prints the records of topics up to their present end, as kafka-python reads them, in the form of
`kafka consume`. Exit status 4: not done in time.
"""

import base64
import json
import sys
import time

from kafka import KafkaConsumer, TopicPartition

TIMESTAMP_TYPES = {0: "CreateTime", 1: "LogAppendTime"}


def text(data):
    return None if data is None else base64.b64encode(data).decode()


def line(record):
    return json.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "timestamp_type": TIMESTAMP_TYPES[record.timestamp_type],
            "key": text(record.key),
            "value": text(record.value),
            "headers": [[text(key.encode()), text(value)] for key, value in record.headers],
        },
        separators=(",", ":"),
    )


def main():
    bootstrap, timeout, topics = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    deadline = time.monotonic() + timeout
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        check_crcs=True,
        max_partition_fetch_bytes=8 << 20,
        fetch_max_wait_ms=100,
        bootstrap_timeout_ms=int(1000 * timeout),
        request_timeout_ms=int(1000 * timeout),
    )
    partitions = [
        TopicPartition(topic, number)
        for topic in topics
        for number in consumer.partitions_for_topic(topic)
    ]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    count = 0
    while any((consumer.position(partition) or 0) < end for partition, end in ends.items()):
        if time.monotonic() > deadline:
            print("timeout after %d records" % count, file=sys.stderr)
            return 4
        for partition, records in consumer.poll(timeout_ms=100, max_records=10000).items():
            for record in records:
                if record.offset < ends[partition]:
                    print(line(record))
                    count += 1
    consumer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
