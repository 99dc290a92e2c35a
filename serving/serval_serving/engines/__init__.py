"""Engines load models and run them. Each stands behind the small protocol of `base`."""
