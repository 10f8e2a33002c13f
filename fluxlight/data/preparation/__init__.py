"""Preparing a store: what there is to do, the doing of it in one process or many, and the packing of what was done."""
