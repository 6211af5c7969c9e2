"""A client of the Kubernetes API and what any controller needs beside it; it knows no Dask.

``client`` speaks to the API server, ``informer`` follows it, ``workqueue`` says what is to be done next, ``lease`` who
does it, and ``metrics`` tells how it goes.
"""
