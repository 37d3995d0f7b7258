"""The page of an export."""
