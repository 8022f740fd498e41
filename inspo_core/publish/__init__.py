"""The page of results in the documentation, from recorded runs."""
