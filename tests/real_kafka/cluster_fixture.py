"""usage: cluster_fixture.py start|stop
environment: KAFKA_DIR, KAFKA_NODES, KAFKA_VERSION (empty: the launcher's), KAFKA_SETTINGS
(key=value ...), KAFKA_MISSING, PYTHON_ENV

Starts the cluster that a group of tests shares, and makes the Python environment for its judge. The
cluster ends with the process that ran this one: ctest. What the machine lacks is written to
KAFKA_MISSING, and the tests are skipped; under CI that is a failure.
"""

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "support"
FAILED, LACKS_SOMETHING = 1, 3
LONGEST_RUN_S = 24 * 3600


def start():
    directory, missing = os.environ["KAFKA_DIR"], Path(os.environ["KAFKA_MISSING"])
    missing.parent.mkdir(parents=True, exist_ok=True)
    missing.unlink(missing_ok=True)
    subprocess.run([SUPPORT / "kafka", "stop", "--dir", directory], check=True)
    settings = ["--set=" + pair for pair in os.environ.get("KAFKA_SETTINGS", "").split()]
    if os.environ.get("KAFKA_VERSION"):
        settings.append("--version=" + os.environ["KAFKA_VERSION"])
    cluster = ["start", "--dir", directory, "--nodes", os.environ["KAFKA_NODES"]]
    cluster += ["--owner", str(os.getppid()), "--ttl", str(LONGEST_RUN_S)]
    for command in (
        [SUPPORT / "python-env", os.environ["PYTHON_ENV"]],
        [SUPPORT / "kafka", *cluster, *settings],
    ):
        code, last_line = run(command)
        if code == FAILED:
            print("%s failed, and is run once more" % command[0].name, file=sys.stderr, flush=True)
            code, last_line = run(command)
        if code == LACKS_SOMETHING:
            missing.write_text(last_line + "\n")
            print("skipped: real Kafka: " + last_line)
            return 1 if os.environ.get("CI") == "true" else 77
        if code:
            return 1
    return 0


def run(command):
    """(exit status, last line of its standard error); all of that is told as it comes."""
    last_line = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            sys.stderr.write(line)
            sys.stderr.flush()
            last_line = line.strip() or last_line
    return process.returncode, last_line


def stop():
    return subprocess.run([SUPPORT / "kafka", "stop", "--dir", os.environ["KAFKA_DIR"]]).returncode


if __name__ == "__main__":
    sys.exit({"start": start, "stop": stop}[sys.argv[1]]())
