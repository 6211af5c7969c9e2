"""``kubectl dask``: what runs, why something does not, and what a user does about it.

What is decided is decided by pure functions over objects as the API server gave them (`why`, `tree`, `usage`,
`changes`); `reading` reads them, `commands` and `connections` carry out, `cli` says how it is called.
"""
