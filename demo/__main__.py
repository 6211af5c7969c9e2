"""The command: only the standard library is used until ``.venv`` exists."""

from __future__ import annotations

import argparse
import sys

from tests import environment


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m demo",
        description="Brings up a Kubernetes cluster on this machine, installs the operator from dist/ and runs an "
        "example DaskJob. The cluster stays until Ctrl-C.",
        epilog=environment.VARIABLES,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--on",
        choices=("kind", "node"),
        help="a cluster in Docker by kind, or a node of its own (Linux, root); default: kind where it and Docker work",
    )
    where.add_argument("--context", metavar="NAME", help="use this context of your kubeconfig instead of a new cluster")
    parser.add_argument("--exit", action="store_true", help="stop the cluster after the demo instead of waiting")
    options = parser.parse_args()
    environment.enter("demo")
    from .steps import play

    return play(on=options.on, context=options.context, stay=not options.exit)


if __name__ == "__main__":
    sys.exit(main())
