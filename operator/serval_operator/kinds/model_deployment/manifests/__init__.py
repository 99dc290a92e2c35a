"""Whole manifests of the children of a ModelDeployment: pure functions."""
