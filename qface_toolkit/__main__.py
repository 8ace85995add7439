"""Let `python -m qface_toolkit` do what the `qface` command does."""

from qface_toolkit.cli import main

if __name__ == "__main__":
    main()
