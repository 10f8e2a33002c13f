"""Guidance: the velocities of several branches become one."""
