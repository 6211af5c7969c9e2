"""All checks and tests: ``python3 -m tests``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .environment import ROOT, VARIABLES, enter

#: The tests of the real node mostly wait for Pods: the others run beside them, see ``tests/conftest.py``.
SIDE_BY_SIDE = ["-n", "3"]


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests",
        usage="%(prog)s [ARGUMENT OF PYTEST ...]",
        description="Checks style, types and layers, then runs all tests that this machine can run, and lists what was "
        "left out. With arguments pytest runs what they say.",
        epilog=f"{VARIABLES} With KUBECONFIG set the end-to-end tests use that cluster.",
    )
    _, arguments = parser.parse_known_args()
    enter("tests")
    os.chdir(ROOT)
    return check(sys.executable, [argument for argument in arguments if argument != "--"])


def check(python: str, arguments: list[str]) -> int:
    """All checks; goes on after a failure, so that one run shows everything."""
    tools = Path(python).parent
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile the same modules
    # Node's warning about its own age hides ours, https://aws.github.io/jsii/user-guides/lib-user/language-specific/
    environment.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
    failed = []
    with contextlib.nullcontext() if arguments else building(python, environment):
        for name, command in {
            "style": ["ruff", "check", "."],
            "format": ["ruff", "format", "--check", "."],
            "types": ["mypy"],
            "layers": ["lint-imports"],
            "tests": ["python", "-m", "pytest", *(arguments or SIDE_BY_SIDE)],
        }.items():
            print(f"== {name}: {' '.join(command)}", flush=True)
            if subprocess.call([str(tools / command[0]), *command[1:]], cwd=ROOT, env=environment):
                failed.append(name)
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall checks passed", flush=True)
    return 1 if failed else 0


@contextlib.contextmanager
def building(python: str, environment: dict[str, str]) -> Iterator[None]:
    """Have the programs that tests need built meanwhile, with what other work leaves of the processors.

    The first tests wait for Pods most of their time. What does not succeed is tried again, and told, by the test that
    needs it.
    """
    command = [python, "-m", "tests.cluster"]
    builder = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: os.nice(15),
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(builder.pid, signal.SIGTERM)
        builder.wait()


if __name__ == "__main__":
    sys.exit(main())
