"""Devices that hold one model: the emulator, and engines for hardware."""
