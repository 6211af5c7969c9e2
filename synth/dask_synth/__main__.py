"""``python -m dask_synth``: write ``dist/``, or say how it differs from what would be written."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .app import write
from .config import Configuration, ConfigurationError, load

_CONFIGURATION = Path("synth/config.yaml")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 1 if there is something to complain about."""
    sys.exit(run(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dask_synth", description="Write the manifests in dist/ from the constructs in synth/."
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get("CDK8S_OUTDIR", "dist")),
        help="where to write (default: CDK8S_OUTDIR, as set by `cdk8s synth`, else dist)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration (default: {_CONFIGURATION}, if there is one)"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; list the files that are not as they would be written"
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Write or check; the exit status.

    Everything is made in a temporary folder first, so mistakes leave the old output as it was.
    """
    try:
        with TemporaryDirectory() as temporary:
            fresh = Path(temporary)
            write(fresh, _configuration(options.config))
            if options.check:
                return _check(fresh, options.output)
            _replace(fresh, options.output)
    except (ConfigurationError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _configuration(path: Path | None) -> Configuration:
    if path is None and not _CONFIGURATION.exists():
        return Configuration()
    return load(path or _CONFIGURATION)


def _check(fresh: Path, output: Path) -> int:
    wanted, present = _contents(fresh), _contents(output)
    differing = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    for path in differing:
        print(f"{output / path}: not as `python -m dask_synth` writes it")
    return 1 if differing else 0


def _replace(fresh: Path, output: Path) -> None:
    """Make ``output`` hold exactly what ``fresh`` holds: files from an earlier run go, as with ``cdk8s synth``."""
    wanted, present = _contents(fresh), _contents(output)
    if present and "install.yaml" not in map(str, present):
        raise ConfigurationError(f"{output} holds other files, which would be deleted: give an empty folder")
    for path in present.keys() - wanted.keys():
        (output / path).unlink()
    for path, content in wanted.items():
        if present.get(path) != content:
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            (output / path).write_bytes(content)
    for folder in sorted((path for path in output.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _contents(directory: Path) -> dict[Path, bytes]:
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


if __name__ == "__main__":
    main()
