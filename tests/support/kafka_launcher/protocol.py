"""A few of Kafka's requests by hand, in old, plain versions that brokers of 4.x still serve. They
take milliseconds, where a JVM with an admin client takes a second."""

import socket
import struct

ELECTION_NOT_NEEDED = 84


class Connection:
    def __init__(self, address, timeout=5.0):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def call(self, api, version, body, flexible=False):
        self.correlation += 1
        message = (
            struct.pack(">hhi", api, version, self.correlation)
            + string("kafka-tests")
            + (b"\0" if flexible else b"")
            + body
        )
        self.socket.sendall(struct.pack(">i", len(message)) + message)
        (size,) = struct.unpack(">i", self.read(4))
        return Reader(self.read(size)[5 if flexible else 4 :])

    def read(self, size):
        data = bytearray()
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise OSError("closed by the broker")
            data += more
        return bytes(data)

    def metadata(self, topics=None):
        """Metadata v5; `topics` None: all."""
        names = [] if topics is None else topics
        reader = self.call(
            3,
            5,
            struct.pack(">i", -1 if topics is None else len(names))
            + b"".join(map(string, names))
            + b"\0",
        )
        reader.int32()
        brokers = {}
        for _ in range(reader.int32()):
            node = reader.int32()
            brokers[node] = "%s:%d" % (reader.string(), reader.int32())
            reader.string()
        reader.string(), reader.int32()
        described = {}
        for _ in range(reader.int32()):
            error, name, _, partitions = reader.int16(), reader.string(), reader.int8(), {}
            for _ in range(reader.int32()):
                failed, index, leader = reader.int16(), reader.int32(), reader.int32()
                partitions[index] = {
                    "error": failed,
                    "leader": leader,
                    "replicas": reader.int32s(),
                    "in_sync": reader.int32s(),
                    "offline": reader.int32s(),
                }
            described[name] = {"error": error, "partitions": partitions}
        return {"brokers": brokers, "topics": described}

    def create_topic(self, name, partitions, replicas, config=(), only_validate=False):
        """CreateTopics v2: (error code, message)."""
        body = (
            struct.pack(">i", 1)
            + string(name)
            + struct.pack(">ihii", partitions, replicas, 0, len(config))
        )
        body += b"".join(string(key) + string(value) for key, value in config)
        reader = self.call(19, 2, body + struct.pack(">i?", 5000, only_validate))
        reader.int32(), reader.int32(), reader.string()
        return reader.int16(), reader.string()

    def reassign(self, wanted):
        """AlterPartitionReassignments v0 of {topic: {partition: replicas}}: the first replica
        becomes the preferred leader. The first (error code, message) that is not 0."""
        body = struct.pack(">i", 5000) + uvarint(len(wanted) + 1)
        for topic, partitions in wanted.items():
            body += compact_string(topic) + uvarint(len(partitions) + 1)
            for index, replicas in partitions.items():
                body += struct.pack(">i", index) + uvarint(len(replicas) + 1)
                body += struct.pack(">%di" % len(replicas), *replicas) + b"\0"
            body += b"\0"
        reader = self.call(45, 0, body + b"\0", flexible=True)
        reader.int32()
        errors = [(reader.int16(), reader.compact_string())]
        for _ in range(reader.uvarint() - 1):
            reader.compact_string()
            for _ in range(reader.uvarint() - 1):
                reader.int32()
                errors.append((reader.int16(), reader.compact_string()))
                reader.tags()
            reader.tags()
        return next((error for error in errors if error[0]), (0, None))

    def elect_preferred_leaders(self, wanted):
        """ElectLeaders v1 of {topic: partitions}: the first error code that is not 0."""
        body = struct.pack(">bi", 0, len(wanted))
        for topic, partitions in wanted.items():
            body += string(topic) + struct.pack(
                ">i%di" % len(partitions), len(partitions), *partitions
            )
        reader = self.call(43, 1, body + struct.pack(">i", 5000))
        reader.int32()
        errors = [reader.int16()]
        for _ in range(reader.int32()):
            reader.string()
            for _ in range(reader.int32()):
                reader.int32()
                errors.append(reader.int16())
                reader.string()
        return next((error for error in errors if error not in (0, ELECTION_NOT_NEEDED)), 0)

    def offset(self, topic, partition, timestamp):
        """ListOffsets v1: (error code, offset); timestamp -2: the first, -1: the end."""
        reader = self.call(
            2,
            1,
            struct.pack(">ii", -1, 1)
            + string(topic)
            + struct.pack(">iiq", 1, partition, timestamp),
        )
        reader.int32(), reader.string(), reader.int32(), reader.int32()
        error, _, offset = reader.int16(), reader.int64(), reader.int64()
        return error, offset


def string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def compact_string(text):
    data = text.encode()
    return uvarint(len(data) + 1) + data


def uvarint(number):
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes(data) + bytes([number])


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def int8(self):
        return self.take(">b")

    def int16(self):
        return self.take(">h")

    def int32(self):
        return self.take(">i")

    def int64(self):
        return self.take(">q")

    def int32s(self):
        return [self.int32() for _ in range(self.int32())]

    def text(self, size):
        if size < 0:
            return None
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def string(self):
        return self.text(self.int16())

    def uvarint(self):
        number, shift = 0, 0
        while True:
            byte = self.take(">B")
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    def compact_string(self):
        return self.text(self.uvarint() - 1)

    def tags(self):
        for _ in range(self.uvarint()):
            self.uvarint()
            self.at += self.uvarint()
