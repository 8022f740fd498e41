"""What to run: ``params.yaml``, typed. One section a stage, no defaults in code, an unknown key is an error."""
