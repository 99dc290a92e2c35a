"""Builders: pure functions from a typed spec to whole manifests."""
