"""usage: librdkafka_consume.py BOOTSTRAP TIMEOUT_S TOPIC...

Prints the records of topics up to their present end, as librdkafka reads them, in the form of
`kafka consume`. Exit status 4: not done in time.
"""

import base64
import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

TIMESTAMP_TYPES = {1: "CreateTime", 2: "LogAppendTime"}


def text(data):
    return None if data is None else base64.b64encode(data).decode()


def line(message):
    kind, timestamp = message.timestamp()
    return json.dumps(
        {
            "topic": message.topic(),
            "partition": message.partition(),
            "offset": message.offset(),
            "timestamp": timestamp,
            "timestamp_type": TIMESTAMP_TYPES[kind],
            "key": text(message.key()),
            "value": text(message.value()),
            "headers": [
                [text(key.encode()), text(value)] for key, value in message.headers() or ()
            ],
        },
        separators=(",", ":"),
    )


def main():
    bootstrap, timeout, topics = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    deadline = time.monotonic() + timeout
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "librdkafka-consume",
            "enable.auto.commit": False,
            "check.crcs": True,
            "fetch.wait.max.ms": 100,
            "fetch.message.max.bytes": 8 << 20,
        }
    )
    ends = {}
    for topic in topics:
        metadata = consumer.list_topics(topic, timeout).topics[topic]
        for number in metadata.partitions:
            partition = TopicPartition(topic, number, OFFSET_BEGINNING)
            _, end = consumer.get_watermark_offsets(partition, timeout)
            if end > 0:
                ends[topic, number] = end
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in ends])
    count = 0
    while ends:
        if time.monotonic() > deadline:
            print("timeout after %d records" % count, file=sys.stderr)
            return 4
        for message in consumer.consume(10000, 0.1):
            if message.error():
                raise KafkaException(message.error())
            place = message.topic(), message.partition()
            if place in ends:
                print(line(message))
                count += 1
                if message.offset() + 1 >= ends[place]:
                    del ends[place]
    consumer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
