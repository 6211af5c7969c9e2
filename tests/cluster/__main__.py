"""Download or build programs ahead of the tests that use them."""

import argparse
import contextlib

from . import components, images

#: In the order in which they are needed.
ALL = (components.NODE, components.CONTROL_PLANE, components.ARGO_CD, components.FLUX, components.TOOLS)
#: No program, but an image that only one test wants.
LAB = "lab"

parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="default: all but those that only a few want")
known = {name for module in components.MODULES for name in map(components.program, module.programs)} | {LAB}

programs = parser.parse_args().programs
if unknown := sorted(set(programs) - known):
    parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
if programs:
    components.ensure(name for name in programs if name != LAB)
    if LAB in programs:
        images.lab_image()
else:
    with contextlib.suppress(components.Unavailable):  # what does not need them is got all the same
        components.ensure_packages()
    for group in ALL:
        with contextlib.suppress(components.Unavailable):
            components.ensure(group)
