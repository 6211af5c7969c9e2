"""The project's two commands on a fresh Linux machine: ``python3 -m tests demo`` and ``python3 -m tests run``.

Only the standard library is used until ``.venv`` exists.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
#: The tests of the real node mostly wait for Pods: the others run beside them, see ``tests/conftest.py``.
TWO_AT_A_TIME = ["-n", "2"]


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests", description="Try dask-gitops, or test it.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="bring up a cluster, install the operator, run a DaskJob to its printed result",
        description="Brings up a Kubernetes cluster on this machine (root on Linux; the first time about 15 minutes, "
        "because its components are built from source), installs the operator from dist/ and runs an example DaskJob. "
        "The cluster stays until Ctrl-C.",
    )
    demo.add_argument("--context", metavar="NAME", help="use this context of your kubeconfig instead of a new cluster")
    demo.add_argument("--exit", action="store_true", help="stop the cluster after the demo instead of waiting")
    run = commands.add_parser(
        "run",
        help="run all tests that this machine can run, and list what was left out",
        description="Checks style, types and layers, then runs the tests. Further arguments go to pytest. With "
        "KUBECONFIG set the end-to-end tests use that cluster.",
    )
    run.add_argument("pytest", nargs="*", help="arguments for pytest, after `--`")
    options, rest = parser.parse_known_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before anything could have checked it
        print(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    python = ensure_environment()
    os.chdir(ROOT)
    if options.command == "demo":
        arguments = ["--context", options.context] if options.context else []
        arguments += ["--exit"] if options.exit else []
        return subprocess.call([python, "-m", "tests.demo", *arguments])
    return check(python, [*options.pytest, *rest])


def ensure_environment() -> str:
    """The Python of ``.venv`` with the project and all that its tests need; made or brought up to date."""
    python = VENV / "bin" / "python"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = VENV / "dask-gitops"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print("- installing the project and its test tools into .venv ...", file=sys.stderr, flush=True)
    if not python.exists():
        try:
            venv.create(VENV, with_pip=True)
        except (subprocess.CalledProcessError, SystemExit):
            shutil.rmtree(VENV, ignore_errors=True)
            sys.exit("Python's venv is incomplete: install it first (Debian, Ubuntu: apt-get install python3-venv)")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.check_call([*pip, "--editable", f"{ROOT}[dev]"])
    stamp.write_text(wanted)
    return str(python)


def check(python: str, arguments: list[str]) -> int:
    """All checks; goes on after a failure, so that one run shows everything."""
    tools = Path(python).parent
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    # Node's warning about its own age hides ours, https://aws.github.io/jsii/user-guides/lib-user/language-specific/
    environment.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
    failed = []
    with contextlib.nullcontext() if arguments else building(python, environment):
        for name, command in {
            "style": ["ruff", "check", "."],
            "format": ["ruff", "format", "--check", "."],
            "types": ["mypy"],
            "layers": ["lint-imports"],
            "tests": ["python", "-m", "pytest", *(arguments or TWO_AT_A_TIME)],
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
        preexec_fn=lambda: os.nice(19),
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(builder.pid, signal.SIGTERM)
        builder.wait()


if __name__ == "__main__":
    sys.exit(main())
