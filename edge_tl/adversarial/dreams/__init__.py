"""Pictures that a class likes best."""
