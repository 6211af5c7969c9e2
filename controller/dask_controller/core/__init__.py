"""Decisions as pure functions: no I/O, no clock, no randomness, no environment, no logging.

Every kind has ``<kind>.py``, what to do about it, and ``<kind>_status.py``, what its status says. Words used here:

desired   what the custom resource asks for.
observed  a snapshot of what exists: children from the watch cache, answers of the scheduler; ``o`` as a parameter.
plan      what should happen now: questions to the scheduler, actions on the API server, when to look again.
action    one write. Every action is safe to repeat, and safe to be the last one before a crash.
outcome   an action and how it went.
ledger    ``status.draining`` of a worker group: the workers that are on their way out.
run       one execution of a job; each ``spec.runId`` has its own.
"""
