"""The JVMs' side: the class path, which Maven resolves, the compiled helper, the command lines."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from kafka_launcher import Failure, Missing, log

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
HELPER = HERE / "KafkaTestTool.java"


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "kafka-producer-tests"


def java_program(name):
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=os.path.join(home, "bin")) if home else shutil.which(name)
    if not found:
        raise Missing(
            "no %s %s: install a JDK, 17 or newer" % (name, "in JAVA_HOME" if home else "in PATH")
        )
    return found


@contextlib.contextmanager
def locked(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def class_path():
    """The jars, resolved once per pom, and the compiled helper in front of them."""
    java_program("java")
    javac = java_program("javac")
    cache = cache_dir()
    sources = POM.read_bytes() + HELPER.read_bytes()
    found = cache / ("classpath-" + hashlib.sha256(POM.read_bytes()).hexdigest()[:16])
    classes = cache / ("classes-" + hashlib.sha256(sources).hexdigest()[:16])
    with locked(cache / "lock"):
        if not found.exists() or not all(map(os.path.exists, found.read_text().split(":"))):
            resolve(found)
        jars = found.read_text().strip()
        if not classes.exists():
            scratch = cache / ("classes.%d" % os.getpid())
            run([javac, "-nowarn", "-d", str(scratch), "-cp", jars, str(HELPER)])
            scratch.rename(classes)
    return "%s:%s" % (classes, jars)


def resolve(found):
    if not shutil.which("mvn"):
        raise Missing("no mvn in PATH: install Maven")
    scratch = found.with_suffix(".%d" % os.getpid())
    log("resolving Apache Kafka's jars with Maven")
    run(
        [
            "mvn",
            "-q",
            "-B",
            "-f",
            str(POM),
            "dependency:build-classpath",
            "-DincludeScope=runtime",
            "-Dmdep.outputFile=" + str(scratch),
        ]
    )
    scratch.rename(found)


def run(command):
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise Failure("%s failed:\n%s" % (command[0], done.stdout[-4000:]))


LOG4J = """<Configuration status="WARN">
<Appenders><Console name="out" target="SYSTEM_%s">
<PatternLayout pattern="[%%d] %%p %%m (%%c)%%n"/></Console></Appenders>
<Loggers><Root level="%s"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def java_command(directory, heap, level):
    """A JVM that starts fast and stays small: serial collector, client compiler."""
    config = directory / ("log4j2-%s.xml" % level.lower())
    config.write_text(LOG4J % ("OUT" if level == "INFO" else "ERR", level))
    return [
        java_program("java"),
        "-Xmx" + heap,
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
        "-Xss512k",
        "-Xshare:auto",
        "-XX:+ExitOnOutOfMemoryError",
        "-Dlog4j2.disableJmx=true",
        "-Dlog4j2.configurationFile=" + str(config),
        "-cp",
        class_path(),
    ]


def helper_command(directory, *arguments):
    return java_command(directory, "512m", "ERROR") + ["KafkaTestTool", *arguments]
