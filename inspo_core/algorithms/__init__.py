"""How policies learn: mathematics in torch, no files, no logging; one contract (``base.py``), one table."""
