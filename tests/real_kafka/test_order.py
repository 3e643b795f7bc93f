"""Order without producer ids: while leaders move, freeze and die, a partition's records come in the
order in which they were sent. What was written in doubt may be there again; nothing overtakes."""

import unittest

import harness

PARTITIONS = 3
# Records without an outcome: enough that some always wait behind a batch in flight.
OUTSTANDING = 300
# The rules for what is in flight are the default ones.
CONFIG = dict(
    enable_idempotence="false",
    acks="all",
    request_timeout_ms=1_500,
    linger_ms=0,
    batch_size=256,
)


def setUpModule():
    global cluster
    cluster = harness.cluster()


class Order(unittest.TestCase):
    def tearDown(self):
        cluster.revive()

    def while_sending(self, faults):
        """Runs faults(topic, more) while records flow, then reads all of them back."""
        topic = cluster.create_topic("order", PARTITIONS, min_insync_replicas=2)
        with harness.Produce(cluster.bootstrap, **CONFIG) as producing:
            outcomes = harness.while_sending(producing, topic, PARTITIONS, OUTSTANDING, faults)
            total = len(producing.records)
        cluster.tell("wait-in-sync")
        self.assertEqual({outcome.kind for outcome in outcomes.values()}, {"delivered"})
        logs = harness.by_partition(cluster.java_consume(topic))
        again = 0
        for number in range(PARTITIONS):
            log = [int(record.value) for record in logs[topic, number]]
            firsts = list(dict.fromkeys(log))
            again += len(log) - len(firsts)
            self.assertEqual(
                firsts, list(range(number, total, PARTITIONS)), "partition %d" % number
            )
            ids = {batch.producer_id for batch in cluster.batches(topic, number)}
            self.assertEqual(ids, {-1}, "these records were to have no producer id")
        print("%d records, %d of them again" % (total, again))

    def test_leaders_move(self):
        def faults(topic, more):
            for turn in range(4):
                cluster.move_leaders(topic, turn, more)

        self.while_sending(faults)

    def test_leaders_freeze(self):
        def faults(topic, more):
            for index in range(PARTITIONS):
                victim = cluster.leader(topic, index)
                cluster.signal("pause", victim)
                try:
                    more()
                finally:
                    cluster.signal("resume", victim)
                cluster.tell("wait-in-sync")
                more()

        self.while_sending(faults)

    def test_leaders_die(self):
        def faults(topic, more):
            for index in range(2):
                victim = cluster.leader(topic, index)
                cluster.signal("kill", victim)
                more()
                cluster.tell("restart", victim, "--in-sync")
                more()

        self.while_sending(faults)


if __name__ == "__main__":
    harness.main()
