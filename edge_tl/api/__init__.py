"""The functions that a program or a notebook calls; the commands call them too. `edge_tl` offers their names."""
