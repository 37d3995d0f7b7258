"""Parts that this package adds to edge-tl; pyproject.toml names them."""
