"""Compares what a producer said of its records with what stands in the log.

Records belong to streams: a stream has one key, goes to one partition, and numbers its records from
0. A record's value says which record it is (chaos.c). Each record that was accepted has an outcome;
what a consumer reads is given in the order of its offsets. Memory is 12 bytes per record, so that a
run may take hours. It knows nothing of Kafka, and its own tests are on made-up logs.
"""

import zlib
from array import array
from dataclasses import dataclass, field

OK = "PRODUCER_OK"
MAYBE_PERSISTED = 8
SEQUENCE_BITS = 40

# What can be wrong. Each found is counted, and the first few of a kind are told.
LOST = "lost"  # acknowledged and not in the log
DUPLICATED = "duplicated"  # in the log again
MISPLACED = "misplaced"  # in another partition, or under another key, than it belongs to
DISORDERED = "disordered"  # behind a later record of its stream
UNFLAGGED = "unflagged"  # failed without MAYBE_PERSISTED, and in the log
CORRUPT = "corrupt"  # its sum is wrong, or it cannot be read
STRANGE = "strange"  # in the log, and never accepted
MISREPORTED = "misreported"  # acknowledged at another place than the log's
FAILED = "failed"  # where none may
NO_OUTCOME = "without outcome"
TWO_OUTCOMES = "with two outcomes"

EXAMPLES = 5

# What became of a record: a byte each.
OPEN, ACKNOWLEDGED, DENIED, IN_DOUBT = range(4)
UNKNOWN_OFFSET = -1


@dataclass
class Stream:
    """`partition` is where its records belong, whoever chose it; `stated` is what they say."""

    topic: str
    key: bytes
    partition: int
    stated: int
    count: int
    outcomes: bytearray = field(default_factory=bytearray)
    occurrences: bytearray = field(default_factory=bytearray)
    offsets: array = field(default_factory=lambda: array("q"))
    highest: int = -1

    def __post_init__(self):
        self.outcomes = bytearray(self.count)
        self.occurrences = bytearray(self.count)
        self.offsets = array("q", [UNKNOWN_OFFSET]) * self.count


class Checker:
    def __init__(self, streams, failures_allowed=False):
        """`streams` by number."""
        self.streams = streams
        self.failures_allowed = failures_allowed
        self.numbers = {stream.key: number for number, stream in streams.items()}
        self.found, self.examples = {}, {}
        self.read_up_to = {}
        self.acknowledged = self.failed = self.in_doubt = self.read = self.doubtful_in_log = 0
        self.reasons = {}

    def wrong(self, kind, what, *arguments):
        self.found[kind] = self.found.get(kind, 0) + 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(what % arguments)

    def name(self, number, sequence):
        stream = self.streams[number]
        return "%s of %s [%d], key %s" % (
            sequence,
            stream.topic,
            stream.partition,
            stream.key.decode(),
        )

    # ---- What the producer said ----

    def outcome(self, tag, status, flags, topic, partition, offset, message=""):
        number, sequence = tag >> SEQUENCE_BITS, tag & ((1 << SEQUENCE_BITS) - 1)
        stream = self.streams.get(number)
        if stream is None or sequence >= stream.count:
            self.wrong(STRANGE, "an outcome of tag %x, which nobody sent", tag)
            return
        if stream.outcomes[sequence] != OPEN:
            self.wrong(TWO_OUTCOMES, "%s: now %s", self.name(number, sequence), status)
            return
        if (topic, partition) != (stream.topic, stream.partition):
            self.wrong(
                MISREPORTED, "%s: told as %s [%d]", self.name(number, sequence), topic, partition
            )
        if status == OK:
            self.acknowledged += 1
            stream.outcomes[sequence] = ACKNOWLEDGED
            stream.offsets[sequence] = offset
            return
        self.failed += 1
        reason = "%s %d" % (status, flags)
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        in_doubt = bool(flags & MAYBE_PERSISTED)
        self.in_doubt += in_doubt
        stream.outcomes[sequence] = IN_DOUBT if in_doubt else DENIED
        if not self.failures_allowed:
            self.wrong(FAILED, "%s: %s: %s", self.name(number, sequence), status, message)

    # ---- What stands in the log ----

    def record(self, topic, partition, offset, key, value):
        place = (topic, partition)
        if offset <= self.read_up_to.get(place, -1):
            raise AssertionError("the reader gives offset %d of %s again" % (offset, place))
        self.read_up_to[place] = offset
        self.read += 1
        said = parse(value)
        if said is None:
            self.wrong(CORRUPT, "%s [%d] at %d: %r", topic, partition, offset, value)
            return
        said_topic, said_partition, said_key, sequence = said
        number = self.numbers.get(said_key)
        if number is None or sequence >= self.streams[number].count:
            self.wrong(STRANGE, "%s [%d] at %d: %r", topic, partition, offset, value)
            return
        stream = self.streams[number]
        if (said_topic, said_partition) != (stream.topic, stream.stated):
            self.wrong(STRANGE, "%s [%d] at %d: %r", topic, partition, offset, value)
        elif place != (stream.topic, stream.partition) or key != said_key:
            self.wrong(
                MISPLACED,
                "%s: in %s [%d] at %d under key %r",
                self.name(number, sequence),
                topic,
                partition,
                offset,
                key,
            )
        else:
            self.placed(number, sequence, offset)

    def placed(self, number, sequence, offset):
        stream = self.streams[number]
        again = stream.occurrences[sequence]
        outcome, told = stream.outcomes[sequence], stream.offsets[sequence]
        if again:
            self.wrong(
                DUPLICATED,
                "%s: again at %d; it was %s",
                self.name(number, sequence),
                offset,
                ("without outcome", "acknowledged at %d" % told, "denied", "in doubt")[outcome],
            )
            return
        stream.occurrences[sequence] = 1
        if sequence < stream.highest:
            self.wrong(
                DISORDERED,
                "%s: at %d, behind %d",
                self.name(number, sequence),
                offset,
                stream.highest,
            )
        stream.highest = max(stream.highest, sequence)
        if outcome == DENIED:
            self.wrong(UNFLAGGED, "%s: at %d", self.name(number, sequence), offset)
        elif outcome == IN_DOUBT:
            self.doubtful_in_log += 1
        elif outcome == ACKNOWLEDGED and told not in (UNKNOWN_OFFSET, offset):
            self.wrong(
                MISREPORTED, "%s: at %d, told as %d", self.name(number, sequence), offset, told
            )

    # ---- Verdict ----

    def finish(self):
        """After all outcomes and the whole log: {kind: how many}, empty if all is well."""
        for number, stream in self.streams.items():
            for sequence in range(stream.count):
                outcome = stream.outcomes[sequence]
                if outcome == OPEN:
                    self.wrong(NO_OUTCOME, "%s", self.name(number, sequence))
                elif outcome == ACKNOWLEDGED and not stream.occurrences[sequence]:
                    self.wrong(
                        LOST,
                        "%s: acknowledged at %d",
                        self.name(number, sequence),
                        stream.offsets[sequence],
                    )
        return self.found

    def summary(self):
        lines = [
            "%d acknowledged, %d failed (%d in doubt, of which %d are in the log), %d read"
            % (self.acknowledged, self.failed, self.in_doubt, self.doubtful_in_log, self.read)
        ]
        lines += ["failed with %s: %d" % reason for reason in sorted(self.reasons.items())]
        for kind, count in self.found.items():
            lines.append("%d %s" % (count, kind))
            lines += ["    " + example for example in self.examples[kind]]
        return "\n".join(lines)


def parse(value):
    """(topic, partition, key, sequence), or None."""
    try:
        body, crc = value[:-8], int(value[-8:], 16)
        topic, partition, key, sequence, _, _ = body.split(b"|")
        if zlib.crc32(body) != crc:
            return None
        return topic.decode(), int(partition), key, int(sequence)
    except (ValueError, TypeError):
        return None


def value_of(topic, partition, key, sequence, padding=b"xx"):
    """What chaos.c writes."""
    body = b"%s|%d|%s|%d|%s|" % (topic.encode(), partition, key, sequence, padding)
    return body + b"%08x" % zlib.crc32(body)
