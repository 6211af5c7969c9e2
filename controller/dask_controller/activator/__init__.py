"""The activator: a sleeping cluster's Service leads to it, it holds who connects, wakes the cluster, and leads on.

`decide` says when, `door` holds connections, `rooms` has all doors and carries out, `__main__` is the process.
"""
