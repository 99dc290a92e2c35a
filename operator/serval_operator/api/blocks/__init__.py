"""Blocks of specs that kinds can share: one class gives their schema, their parser and their docs."""
