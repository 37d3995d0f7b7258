"""What every page is made of: templates, plots, pairs, documents."""
