"""The stages of `prepare`, each reading what those before it wrote."""
