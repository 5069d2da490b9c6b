"""The contract between the parts: models that every message and request is checked against. Imports no service."""
