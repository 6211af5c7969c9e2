"""Dask clusters that Git owns, for those who compute: find, wake, use and leave them."""
