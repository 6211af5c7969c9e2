"""``python -m dask_synth``."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. The command is there with whatever extra was installed, also without what it needs."""
    try:
        from .cli import main as run

        run(arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dask_"):
            raise
        sys.exit(f"dask-synth needs {error.name}: pip install 'dask-gitops[synth]'")


if __name__ == "__main__":
    main()
