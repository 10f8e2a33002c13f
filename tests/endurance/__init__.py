"""Endurance: commands that are stopped at random points and run again must end as if nothing had happened."""
