"""``.venv``, with the project and all that demo and tests need. Only the standard library is used to make it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
#: For ``--help``.
VARIABLES = (
    "Environment: DASK_GITOPS_PROGRAMS=download or build says where the programs and images of clusters come from "
    "(default: downloaded where their releases can be reached, else built from source, which takes about 15 minutes "
    "once). DASK_GITOPS_CACHE is the folder where they are kept."
)


def enter(module: str) -> None:
    """Go on as ``python -m module`` of ``.venv``, with the same arguments, unless this is its Python.

    The process is replaced, so that Ctrl-C reaches the one that knows what to clean up.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before anything could have checked it
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    python = ensure()
    if Path(sys.prefix) != VENV:
        os.chdir(ROOT)
        os.execv(python, [python, "-m", module, *sys.argv[1:]])


def ensure() -> str:
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
