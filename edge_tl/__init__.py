"""edge-tl on the workstation: data, training and the command line. Imports nothing heavy until a part is used."""

__version__ = "0.1.0"
