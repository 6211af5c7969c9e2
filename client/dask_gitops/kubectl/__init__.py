"""``kubectl dask``: what runs, why something does not, and what a user does about it.

What is decided is decided by pure functions over objects as the API server gave them (`seen`, `why`, `tree`, `changes`);
`api` reads and writes, `commands` does both, `cli` says how it is called.
"""
