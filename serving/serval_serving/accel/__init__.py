"""Accelerated models: networks that are built, converted and quantised for a device that runs one model."""
