"""The launcher leaves nothing behind, whether its owner ends or its supervisor is killed."""

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import unittest

import harness


def setUpModule():
    harness.cluster()  # skips where the machine lacks something


class Launcher(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="kafka-launcher-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.owner = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self.addCleanup(self.owner.communicate)
        self.run_launcher("start", "--owner", self.owner.pid)
        self.addCleanup(self.run_launcher, "stop")
        status = json.loads(self.run_launcher("status"))
        self.supervisor = status["supervisor"]
        pids = [self.supervisor] + [node["pid"] for node in status["nodes"].values()]
        self.processes = [os.pidfd_open(pid) for pid in pids]
        for descriptor in self.processes:
            self.addCleanup(os.close, descriptor)

    def run_launcher(self, *words):
        command = [harness.LAUNCHER, *words, "--dir", self.directory]
        return harness.run(command, 2 * harness.PATIENCE_S)

    def check_all_end(self):
        for descriptor in self.processes:
            ended, _, _ = select.select([descriptor], [], [], harness.PATIENCE_S)
            self.assertTrue(ended, "a process of the cluster still runs")

    def test_the_cluster_ends_with_its_owner(self):
        self.owner.communicate()
        self.check_all_end()

    def test_the_nodes_end_with_a_killed_supervisor(self):
        os.kill(self.supervisor, signal.SIGKILL)
        self.check_all_end()

    def test_a_second_cluster_in_the_same_folder_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "a cluster is running in"):
            self.run_launcher("start")
        self.assertEqual(len(json.loads(self.run_launcher("status"))["nodes"]), 1)


if __name__ == "__main__":
    harness.main()
