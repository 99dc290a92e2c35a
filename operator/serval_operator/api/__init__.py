"""Typed custom resources, views of observed objects and conditions: pure data, no client."""
