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
LACKS_SOMETHING = 3
LONGEST_RUN_S = 24 * 3600


def start():
    directory, missing = os.environ["KAFKA_DIR"], Path(os.environ["KAFKA_MISSING"])
    missing.parent.mkdir(parents=True, exist_ok=True)
    missing.unlink(missing_ok=True)
    subprocess.run([SUPPORT / "kafka", "stop", "--dir", directory], check=True)
    settings = ["--set=" + pair for pair in os.environ.get("KAFKA_SETTINGS", "").split()]
    if os.environ.get("KAFKA_VERSION"):
        settings.append("--version=" + os.environ["KAFKA_VERSION"])
    for command in (
        [SUPPORT / "python-env", os.environ["PYTHON_ENV"]],
        [
            SUPPORT / "kafka",
            "start",
            "--dir",
            directory,
            "--nodes",
            os.environ["KAFKA_NODES"],
            "--owner",
            str(os.getppid()),
            "--ttl",
            str(LONGEST_RUN_S),
            *settings,
        ],
    ):
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        sys.stderr.write(done.stderr)
        if done.returncode == LACKS_SOMETHING:
            reason = done.stderr.strip().splitlines()[-1]
            missing.write_text(reason + "\n")
            print("skipped: real Kafka: " + reason)
            return 1 if os.environ.get("CI") == "true" else 77
        if done.returncode:
            return 1
    return 0


def stop():
    return subprocess.run([SUPPORT / "kafka", "stop", "--dir", os.environ["KAFKA_DIR"]]).returncode


if __name__ == "__main__":
    sys.exit({"start": start, "stop": stop}[sys.argv[1]]())
