"""Readers of raw data, one file a format, and their table."""
