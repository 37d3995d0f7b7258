"""Pages to read: one self-contained HTML file each, no script, no network."""
