"""Attacking an exported file with many attacks and checking the results: sweep, evidence, gradient masking, report."""
