"""`kubectl dask` in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from dask_gitops.kubectl.cli import kubectl_dask


class Dask:
    """`kubectl dask` in one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._options = ["--kubeconfig", str(kubeconfig), "-n", namespace]

    def run(self, *arguments: str) -> Result:
        done = CliRunner().invoke(kubectl_dask, [*self._options, *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))

    def why(self, name: str) -> str:
        return self.json("why", name)["reason"]
