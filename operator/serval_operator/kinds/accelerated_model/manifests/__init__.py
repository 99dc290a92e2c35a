"""Whole manifests of the children of an AcceleratedModel: pure functions."""
