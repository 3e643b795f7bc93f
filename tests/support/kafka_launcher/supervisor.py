"""The cluster's configuration, and the process that owns its JVMs."""

import base64
import contextlib
import ctypes
import hashlib
import json
import os
import selectors
import signal
import socket
import subprocess
import time
import traceback
import uuid

from kafka_launcher import Failure
from kafka_launcher.java import java_command, numbers

HOST = "127.0.0.1"
CONTROLLER = "c"
CONTROLLER_ID = 100
# Older brokers are run with ZooKeeper in the controller's place.
FIRST_WITH_KRAFT = (3, 3)
# A JVM that has not ended so long after TERM gets KILL.
TERM_S = 30
# Bounds against hanging: of a request that a client is writing, and of an answer, which may come
# behind others that each wait for a JVM's end.
REQUEST_S, ANSWER_S = 60, 240

# ---- Configuration ----

# Small, and quick to notice that a broker is gone.
COMMON = {
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
    "log.cleaner.dedupe.buffer.size": 4194304,
    "offsets.topic.num.partitions": 1,
    "group.initial.rebalance.delay.ms": 0,
    "auto.leader.rebalance.enable": "false",
    "controlled.shutdown.retry.backoff.ms": 200,
    # Tests write records with the timestamps of other years.
    "log.retention.ms": -1,
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
}
KRAFT = {
    "broker.heartbeat.interval.ms": 250,
    # How long a JVM may take to start on a busy machine.
    "initial.broker.registration.timeout.ms": 300000,
    "controller.quorum.election.timeout.ms": 500,
    "controller.quorum.fetch.timeout.ms": 1000,
    "controller.quorum.election.backoff.max.ms": 300,
    "controller.quorum.request.timeout.ms": 1000,
    "controller.listener.names": "CONTROLLER",
}
# A broker that is silent for so long is fenced, and others lead in its place. One that is alone has
# none, and refuses what it gets when a busy machine lets it sleep for a moment.
SESSION_MS, SESSION_ALONE_MS = 1500, 6000
ZOOKEEPER = {
    "zookeeper.session.timeout.ms": SESSION_ALONE_MS,
    "zookeeper.connection.timeout.ms": 60000,
}


class Port:
    """A port of the kernel's choice that stays ours. The socket stays bound and never listens:
    nobody else is given the port, a broker may still listen on it (both set SO_REUSEADDR), and
    while no broker does connections are refused."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((HOST, 0))
        self.address = "%s:%d" % self.socket.getsockname()


class Node:
    def __init__(self, name, directory, main, config):
        self.name, self.directory, self.main = name, directory / ("node-" + name), main
        data = "log.dirs" if main == BROKER else "dataDir"
        self.config = dict(config, **{data: self.directory / "data"})
        self.properties = self.directory / "server.properties"
        self.log = self.directory / "log"
        self.process = None

    def is_broker(self):
        return self.name != CONTROLLER

    def write_config(self):
        self.directory.mkdir(parents=True)
        self.properties.write_text("".join("%s=%s\n" % entry for entry in self.config.items()))


BROKER = "kafka.Kafka"
ZOOKEEPER_SERVER = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


class Cluster:
    """The nodes and their ports. One broker is its own controller; three have one of a process of
    its own, so that any broker can be killed. With ZooKeeper, that is the process of its own."""

    def __init__(self, directory, count, version, extra):
        self.id = (
            base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        )
        self.version = version
        self.has_kraft = numbers(version) >= FIRST_WITH_KRAFT
        self.ports = {str(number): Port() for number in range(1, count + 1)}
        self.controller = Port()
        self.combined = count == 1 and self.has_kraft
        self.session_ms = SESSION_ALONE_MS if self.combined else SESSION_MS
        shared = dict(COMMON)
        shared["default.replication.factor"] = shared["offsets.topic.replication.factor"] = count
        shared["min.insync.replicas"] = min(2, count)
        self.nodes = {}
        for name in self.ports if self.combined else (CONTROLLER, *self.ports):
            if name == CONTROLLER and not self.has_kraft:
                self.nodes[name] = Node(name, directory, ZOOKEEPER_SERVER, self.zookeeper())
            else:
                config = {**shared, **self.place(name), **extra}
                self.nodes[name] = Node(name, directory, BROKER, config)

    def place(self, name):
        """What a node is, and where it listens."""
        if not self.has_kraft:
            broker = "PLAINTEXT://" + self.ports[name].address
            return dict(
                ZOOKEEPER,
                **{
                    "broker.id": name,
                    "zookeeper.connect": self.controller.address,
                    "listeners": broker,
                    "advertised.listeners": broker,
                }
            )
        voter = "%d@%s" % (1 if self.combined else CONTROLLER_ID, self.controller.address)
        quorum = dict(
            KRAFT,
            **{"controller.quorum.voters": voter, "broker.session.timeout.ms": self.session_ms}
        )
        controller = "CONTROLLER://" + self.controller.address
        if name == CONTROLLER:
            return dict(
                quorum,
                **{
                    "node.id": CONTROLLER_ID,
                    "process.roles": "controller",
                    "listeners": controller,
                }
            )
        broker = "PLAINTEXT://" + self.ports[name].address
        return dict(
            quorum,
            **{
                "node.id": int(name),
                "process.roles": "broker,controller" if self.combined else "broker",
                "listeners": broker + "," + controller if self.combined else broker,
                "advertised.listeners": broker,
            }
        )

    def zookeeper(self):
        host, port = self.controller.address.split(":")
        return {
            "clientPortAddress": host,
            "clientPort": port,
            "tickTime": 500,
            "admin.enableServer": "false",
            "maxClientCnxns": 0,
        }


# ---- Supervisor ----


def die_with_parent(parent):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def control_address(directory):
    return "\0kafka-producer-tests-" + hashlib.sha256(str(directory).encode()).hexdigest()[:32]


def ask(directory, *words):
    """The supervisor's answer; None if there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(control_address(directory))
            connection.sendall(json.dumps(words).encode() + b"\n")
            line = connection.makefile("rb").readline()
        except ConnectionError:
            return None
    reply = json.loads(line) if line else None
    if reply and "failure" in reply:
        raise Failure(reply["failure"])
    return reply


class Supervisor:
    """Owns the nodes' processes; answers one request per connection on an abstract Unix socket
    named after the folder."""

    def __init__(self, directory, cluster, listener, owner, ttl):
        self.directory, self.cluster, self.listener = directory, cluster, listener
        self.selector = selectors.DefaultSelector()
        self.deadline = time.monotonic() + ttl
        self.ended = False
        self.java = java_command(directory, "320m", "INFO", cluster.version)
        if owner:
            try:
                self.selector.register(os.pidfd_open(owner), selectors.EVENT_READ, self.end)
            except ProcessLookupError:
                self.end()

    def run(self):
        awake, wake = socket.socketpair()
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.end())
        self.selector.register(awake, selectors.EVENT_READ, lambda: awake.recv(64))
        self.selector.register(self.listener, selectors.EVENT_READ, self.answer)
        try:
            for node in self.cluster.nodes.values():
                self.spawn(node)
            while not self.ended:
                ready = self.selector.select(max(0.0, self.deadline - time.monotonic()))
                if not ready and time.monotonic() >= self.deadline:
                    self.end()
                for key, _ in ready:
                    key.data()
        finally:
            finish(
                [node.process for node in self.cluster.nodes.values() if node.process],
                signal.SIGKILL,
            )

    def end(self):
        self.ended = True

    def spawn(self, node):
        parent = os.getpid()
        with open(node.log, "ab") as out:
            node.process = subprocess.Popen(
                self.java + [node.main, str(node.properties)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=node.directory,
                preexec_fn=lambda: die_with_parent(parent),
            )

    def answer(self):
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(REQUEST_S)
            try:
                words = json.loads(connection.makefile("rb").readline())
                reply = self.handle(*words)
            except (OSError, ValueError, KeyError, TypeError, Failure) as error:
                reply = {"failure": "%s: %s" % (type(error).__name__, error)}
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(reply).encode() + b"\n")

    def handle(self, word, name=None):
        if word == "status":
            return self.status()
        if word == "stop":
            self.end()  # nobody reads the data again
            return {}
        node = self.cluster.nodes[name]
        running = node.process.poll() is None
        if word == "restart":
            if running:
                finish([node.process], signal.SIGTERM)
            self.spawn(node)
            return {}
        if not running:
            raise Failure("node %s is not running" % name)
        if word == "pause":
            node.process.send_signal(signal.SIGSTOP)
        elif word == "resume":
            node.process.send_signal(signal.SIGCONT)
        else:
            finish([node.process], {"kill": signal.SIGKILL, "term": signal.SIGTERM}[word])
        return {}

    def status(self):
        nodes = {}
        for name, node in self.cluster.nodes.items():
            nodes[name] = {
                "pid": node.process.pid,
                "exit": node.process.poll(),
                "log": str(node.log),
            }
            if node.is_broker():
                nodes[name]["address"] = self.cluster.ports[name].address
        return {
            "supervisor": os.getpid(),
            "has_kraft": self.cluster.has_kraft,
            "nodes": nodes,
        }


def finish(processes, how):
    """Signals them, paused ones as well, and waits for their end."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + TERM_S
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def supervise(directory, cluster, listener, options):
    """The supervisor's process, from fork to exit: it keeps nothing of who started it."""
    try:
        os.setsid()
        out = os.open(
            directory / "supervisor.log",
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
            0o644,
        )
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for target, source in ((0, null), (1, out), (2, out)):
            os.dup2(source, target)
        Supervisor(directory, cluster, listener, options.owner, options.ttl).run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
