"""Clips on disk: the candidates folder, folders of audio, reading and faults."""
