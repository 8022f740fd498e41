"""Ingest: raw files of a dataset to validated episodes in the native format."""
