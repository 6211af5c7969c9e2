"""Build all programs that the tests use, in the order in which they need them."""

import contextlib

from . import components

with contextlib.suppress(components.Unavailable):  # what does not need them is built all the same
    components.ensure_packages()
for programs in (components.NODE, components.ARGO_CD, components.FLUX, components.TOOLS):
    with contextlib.suppress(components.Unavailable):
        components.ensure(programs)
