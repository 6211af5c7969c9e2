"""The only code that does I/O: watch, ask, execute, write status."""
