"""`python -m edge_tl` is `edge-tl`."""

from edge_tl.cli import main

if __name__ == "__main__":
    main()
