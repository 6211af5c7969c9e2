"""Build all programs that the tests use, in the order in which they need them."""

from . import components

components.ensure([*components.NODE, *components.ARGO_CD, *components.FLUX, *components.TOOLS])
