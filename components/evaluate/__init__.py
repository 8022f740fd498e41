"""Evaluate: episodes of trained policies in their game."""
