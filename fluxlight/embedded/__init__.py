"""The embedded world: a corpus generator and shipped weights, so that everything runs offline."""
