"""Turns: the queue of all objects that ask for devices, whatever their kinds."""
