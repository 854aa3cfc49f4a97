"""Evidence bundles: what is in one, and `verify`, which checks one and stands alone."""
