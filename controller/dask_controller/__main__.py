"""``python -m dask_controller run``."""

from .shell.main import main

if __name__ == "__main__":
    main()
