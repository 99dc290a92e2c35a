"""Whole manifests of the children of custom resources that serve a model: pure functions."""
