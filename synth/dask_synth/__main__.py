"""``python -m dask_synth``."""

from .cli import main

if __name__ == "__main__":
    main()
