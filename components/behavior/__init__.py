"""Behavior: models of the policies that collected a dataset."""
