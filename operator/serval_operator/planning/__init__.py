"""Decisions: pure functions of one frozen observation."""
