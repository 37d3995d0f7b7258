"""Photos to train on: data sets by name, and what may be wrong with a folder."""
