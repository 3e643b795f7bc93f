"""The judge of the chaos runs, on made-up logs: it finds each thing that can be wrong, and nothing
where nothing is. Starts no Kafka."""

import unittest

import chaos_checker
from chaos_checker import Checker, Stream, value_of

RECORDS = 10
PLACED, KEYED = 0, 1


def new_checker(**more):
    streams = {
        PLACED: Stream("placed", b"place-0", 3, 3, RECORDS),
        KEYED: Stream("keyed", b"key-0", 5, -1, RECORDS),
    }
    return Checker(streams, **more)


class Run:
    """What was told and what is in the log, of two streams; right until a test spoils it."""

    def __init__(self):
        self.outcomes = [
            self.acknowledged(number, sequence)
            for number in (PLACED, KEYED)
            for sequence in range(RECORDS)
        ]
        self.logs = {("placed", 3): [], ("keyed", 5): []}
        for sequence in range(RECORDS):
            self.logs["placed", 3].append(self.written(PLACED, sequence))
            self.logs["keyed", 5].append(self.written(KEYED, sequence))

    @staticmethod
    def acknowledged(number, sequence):
        topic, partition = (("placed", 3), ("keyed", 5))[number]
        tag = number << chaos_checker.SEQUENCE_BITS | sequence
        return [tag, chaos_checker.OK, 0, topic, partition, sequence]

    @staticmethod
    def written(number, sequence):
        topic, stated, key = (("placed", 3, b"place-0"), ("keyed", -1, b"key-0"))[number]
        return key, value_of(topic, stated, key, sequence)

    def fail(self, number, sequence, flags):
        self.outcomes[number * RECORDS + sequence][1:] = [
            "PRODUCER_ERR_DELIVERY_TIMED_OUT",
            flags,
            ("placed", "keyed")[number],
            (3, 5)[number],
            -1,
        ]

    def judge(self, **more):
        checker = new_checker(**more)
        for outcome in self.outcomes:
            checker.outcome(*outcome)
        for (topic, partition), log in self.logs.items():
            for offset, (key, value) in enumerate(log):
                checker.record(topic, partition, offset, key, value)
        checker.finish()
        return checker


class CheckerTests(unittest.TestCase):
    def setUp(self):
        self.run_of = Run()
        self.placed = self.run_of.logs["placed", 3]
        self.keyed = self.run_of.logs["keyed", 5]

    def expect(self, found, **more):
        checker = self.run_of.judge(**more)
        self.assertEqual(checker.found, found, checker.summary())
        for kind in found:
            self.assertIn(kind, checker.summary())
        return checker

    def test_nothing_is_wrong(self):
        checker = self.expect({})
        self.assertEqual((checker.acknowledged, checker.failed, checker.read), (20, 0, 20))

    def test_the_last_record_is_lost(self):
        self.placed.pop()
        self.expect({"lost": 1})

    def test_a_record_in_the_middle_is_lost(self):
        del self.keyed[4]
        # What follows it is not where it was told to be.
        self.expect({"lost": 1, "misreported": 5})

    def test_a_whole_partition_is_lost(self):
        self.keyed.clear()
        self.expect({"lost": RECORDS})

    def test_a_record_is_lost_whose_offset_was_never_known(self):
        self.run_of.outcomes[9][-1] = -1
        self.placed.pop()
        self.expect({"lost": 1})

    def test_an_unknown_offset_is_no_wrong_offset(self):
        self.run_of.outcomes[9][-1] = -1
        self.expect({})

    def test_an_acknowledged_record_is_duplicated(self):
        self.placed.append(self.placed[-1])
        self.expect({"duplicated": 1})
        self.expect({"duplicated": 1}, failures_allowed=True)

    def test_a_batch_is_duplicated_behind_later_ones(self):
        self.placed += self.placed[2:5]
        self.expect({"duplicated": 3})

    def test_a_failed_record_is_duplicated(self):
        self.run_of.fail(PLACED, 9, chaos_checker.MAYBE_PERSISTED)
        self.placed.append(self.placed[9])
        self.expect({"duplicated": 1}, failures_allowed=True)

    def test_a_record_is_in_another_partition(self):
        self.run_of.logs["placed", 4] = [self.placed.pop()]
        self.expect({"lost": 1, "misplaced": 1})

    def test_a_record_is_in_another_topic(self):
        self.run_of.logs["keyed", 3] = [self.placed.pop()]
        self.expect({"lost": 1, "misplaced": 1})

    def test_a_copy_is_in_another_partition(self):
        self.run_of.logs["placed", 4] = [self.placed[0]]
        self.expect({"misplaced": 1})

    def test_a_record_has_the_key_of_another(self):
        self.placed[9] = (b"key-0", self.placed[9][1])
        self.expect({"lost": 1, "misplaced": 1})

    def test_two_records_change_places(self):
        self.placed[3], self.placed[4] = self.placed[4], self.placed[3]
        self.expect({"disordered": 1, "misreported": 2})

    def test_a_batch_overtakes_another(self):
        self.placed[2:8] = self.placed[5:8] + self.placed[2:5]
        self.expect({"disordered": 3, "misreported": 6})

    def test_a_record_in_doubt_comes_late(self):
        self.run_of.fail(PLACED, 3, chaos_checker.MAYBE_PERSISTED)
        self.placed.append(self.placed.pop(3))
        for sequence in range(4, RECORDS):
            self.run_of.outcomes[sequence][-1] = sequence - 1
        self.expect({"disordered": 1}, failures_allowed=True)

    def test_a_failure_without_the_flag_that_is_in_the_log(self):
        self.run_of.fail(PLACED, 3, 0)
        self.expect({"unflagged": 1}, failures_allowed=True)

    def test_a_failure_without_the_flag_that_is_not(self):
        self.run_of.fail(PLACED, 9, 0)
        self.placed.pop()
        self.expect({}, failures_allowed=True)

    def test_a_failure_in_doubt_may_be_in_the_log(self):
        self.run_of.fail(PLACED, 9, chaos_checker.MAYBE_PERSISTED)
        checker = self.expect({}, failures_allowed=True)
        self.assertEqual((checker.in_doubt, checker.doubtful_in_log), (1, 1))

    def test_a_failure_in_doubt_may_be_missing(self):
        self.run_of.fail(PLACED, 9, chaos_checker.MAYBE_PERSISTED)
        self.placed.pop()
        checker = self.expect({}, failures_allowed=True)
        self.assertEqual((checker.in_doubt, checker.doubtful_in_log), (1, 0))

    def test_a_failure_where_none_is_allowed(self):
        self.run_of.fail(PLACED, 9, chaos_checker.MAYBE_PERSISTED)
        self.placed.pop()
        self.expect({"failed": 1})

    def test_a_record_without_an_outcome(self):
        self.run_of.outcomes.pop()
        self.expect({"without outcome": 1})

    def test_a_record_with_two_outcomes(self):
        self.run_of.outcomes.append(self.run_of.outcomes[0])
        self.expect({"with two outcomes": 1})

    def test_an_outcome_of_a_record_that_nobody_sent(self):
        self.run_of.outcomes.append(Run.acknowledged(PLACED, RECORDS))
        self.expect({"strange": 1})

    def test_an_outcome_that_names_another_partition(self):
        self.run_of.outcomes[0][4] = 4
        self.expect({"misreported": 1})

    def test_a_byte_is_another(self):
        key, value = self.placed[9]
        self.placed[9] = key, value.replace(b"xx", b"xy")
        self.expect({"lost": 1, "corrupt": 1})

    def test_a_value_is_cut_off_or_missing(self):
        key, value = self.placed[9]
        self.placed[8:] = [(key, value[:-1]), (key, None)]
        self.expect({"lost": 2, "corrupt": 2})

    def test_a_record_that_nobody_sent(self):
        self.placed.append(Run.written(PLACED, RECORDS))
        self.placed.append((b"other", value_of("placed", 3, b"other", 0)))
        self.placed.append((b"place-0", value_of("placed", 4, b"place-0", 0)))
        self.expect({"strange": 3})

    def test_a_reader_that_goes_back_is_no_judge(self):
        checker = new_checker()
        checker.record("placed", 3, 7, *self.placed[0])
        with self.assertRaisesRegex(AssertionError, "offset 7"):
            checker.record("placed", 3, 7, *self.placed[1])

    def test_examples_are_few_and_the_count_is_not(self):
        self.keyed.clear()
        checker = self.run_of.judge()
        self.assertEqual(len(checker.examples["lost"]), chaos_checker.EXAMPLES)
        self.assertEqual(checker.found["lost"], RECORDS)


if __name__ == "__main__":
    unittest.main(verbosity=1)
