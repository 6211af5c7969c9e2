"""From nothing to a computed result: ``make demo``, or ``python3 -m demo``."""
