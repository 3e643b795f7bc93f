"""The JVMs' side: the class path, which Maven resolves, the compiled helper, the command lines."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from kafka_launcher import Failure, Missing, log

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
HELPER = HERE / "KafkaTestTool.java"

# What most tests use, and what the helper is compiled against.
DEFAULT_VERSION = "4.3.1"
# What Maven has for all its downloads, and what a repository that is silent has to answer. Without
# the second Maven waits for half an hour; it has one name in each of Maven's ways to download.
MAVEN_S, SILENCE_MS = 300, 60_000


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


def numbers(version):
    """(4, 3, 1) of "4.3.1", to compare."""
    try:
        return tuple(map(int, version.split(".")))
    except ValueError:
        raise Failure("no version of Apache Kafka: %s" % version) from None


def logging_binding(version):
    """Kafka logs through slf4j 1.7 and brings no binding for it: (group, artifact, version)."""
    if numbers(version) >= (4,):
        return "org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"
    if numbers(version) >= (3, 2):
        return "org.slf4j", "slf4j-reload4j", "1.7.36"
    return "org.slf4j", "slf4j-log4j12", "1.7.30"


def jars(version):
    """A version's class path, resolved once per pom."""
    cache = cache_dir()
    key = POM.read_bytes() + version.encode()
    found = cache / ("classpath-" + hashlib.sha256(key).hexdigest()[:16])
    with locked(cache / "lock"):
        if not found.exists() or not all(map(os.path.exists, found.read_text().split(":"))):
            resolve(found, version)
        return found.read_text().strip()


def class_path(version):
    """A version's jars, with the compiled helper in front of them."""
    java_program("java")
    javac = java_program("javac")
    compiled_against = jars(DEFAULT_VERSION)
    cache = cache_dir()
    sources = POM.read_bytes() + HELPER.read_bytes()
    classes = cache / ("classes-" + hashlib.sha256(sources).hexdigest()[:16])
    with locked(cache / "lock"):
        if not classes.exists():
            scratch = cache / ("classes.%d" % os.getpid())
            run([javac, "-nowarn", "-d", str(scratch), "-cp", compiled_against, str(HELPER)])
            scratch.rename(classes)
    return "%s:%s" % (classes, jars(version))


def resolve(found, version):
    if not shutil.which("mvn"):
        raise Missing("no mvn in PATH: install Maven")
    scratch = found.with_suffix(".%d" % os.getpid())
    log("resolving the jars of Apache Kafka %s with Maven" % version)
    group, artifact, binding = logging_binding(version)
    command = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(POM),
        "-Dkafka.version=" + version,
        "-Dlog.group=" + group,
        "-Dlog.artifact=" + artifact,
        "-Dlog.version=" + binding,
        "dependency:build-classpath",
        "-DincludeScope=runtime",
        "-Dmdep.outputFile=" + str(scratch),
        "-Daether.connector.requestTimeout=%d" % SILENCE_MS,
        "-Dmaven.wagon.rto=%d" % SILENCE_MS,
    ]
    try:
        run(command, MAVEN_S)
    except Failure as failure:
        raise_if_unknown(failure, version)
        log("Maven failed, and is run once more: %s" % failure)
        try:
            run([*command, "-U"], MAVEN_S)  # it remembers what it did not get
        except Failure as again:
            raise_if_unknown(again, version)
            raise
    scratch.rename(found)


def raise_if_unknown(failure, version):
    if "Could not find artifact org.apache.kafka:" in str(failure):
        raise Missing(
            "Apache Kafka %s is not in the repositories that Maven knows" % version
        ) from None


def run(command, timeout=300):
    """A failure shows what the program said. Of a program of several processes, such as Maven's
    script, none is left behind."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            raise Failure(
                "%s took longer than %g s:\n%s" % (command[0], timeout, said[-4000:])
            ) from None
    if process.returncode:
        raise Failure("%s failed:\n%s" % (command[0], said[-4000:]))


LOG4J = """<Configuration status="WARN">
<Appenders><Console name="out" target="SYSTEM_%s">
<PatternLayout pattern="[%%d] %%p %%m (%%c)%%n"/></Console></Appenders>
<Loggers><Root level="%s"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


LOG4J_1 = """log4j.rootLogger=%(level)s, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.target=System.%(target)s
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=[%%d] %%p %%m (%%c)%%n
"""


def logging_options(directory, version, level):
    """INFO goes to standard output, all else to standard error."""
    target = "out" if level == "INFO" else "err"
    if numbers(version) >= (4,):
        config = directory / ("log4j2-%s.xml" % level.lower())
        config.write_text(LOG4J % (target.upper(), level))
        return ["-Dlog4j2.disableJmx=true", "-Dlog4j2.configurationFile=" + str(config)]
    config = directory / ("log4j-%s.properties" % level.lower())
    config.write_text(LOG4J_1 % {"level": level, "target": target})
    return ["-Dlog4j.configuration=file:" + str(config)]


def java_command(directory, heap, level, version):
    """A JVM that starts fast and stays small: serial collector, client compiler."""
    return [
        java_program("java"),
        "-Xmx" + heap,
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
        "-Xss512k",
        "-Xshare:auto",
        "-XX:+ExitOnOutOfMemoryError",
        *logging_options(directory, version, level),
        "-cp",
        class_path(version),
    ]


def helper_command(directory, *arguments, version=DEFAULT_VERSION):
    return java_command(directory, "512m", "ERROR", version) + ["KafkaTestTool", *arguments]
