"""Carrying a run out: seeds side by side, the loop, progress, what machines share. None of it says what a run is."""
