"""Cells: experiments as one YAML each, one change over the chain per cell; planned, made and judged here."""
