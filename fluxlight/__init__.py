"""fluxlight: post-training of small text-to-music models with human-preference rewards."""
