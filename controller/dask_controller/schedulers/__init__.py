"""The client of Dask's schedulers: what it asks them, and how much of what they say it believes."""
