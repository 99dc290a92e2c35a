"""Turns: one queue of objects of all kinds that ask for devices."""
