"""What this machine makes of fluxlight: ``python -m fluxlight.bench``. One module a part; no test is timed."""
