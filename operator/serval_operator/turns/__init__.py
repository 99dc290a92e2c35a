"""Turns: the queue of all objects that ask for devices, of any kind."""
