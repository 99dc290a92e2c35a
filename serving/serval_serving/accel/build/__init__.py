"""Composes photos, a featurizer and a classifier into a SavedModel in TensorFlow 1's style.

The modules here that import TensorFlow are imported by the stage's process alone.
"""
