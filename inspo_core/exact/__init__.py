"""InSPO without networks: small games as arrays, solved exactly (docs/exact.md)."""
