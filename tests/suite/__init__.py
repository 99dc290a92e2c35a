"""Runs the layers of tests one after another, or side by side, and sums up what they took."""
