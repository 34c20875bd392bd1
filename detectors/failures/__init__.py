"""Failures as fingerprints, vectors and clusters with an identity that lasts."""
