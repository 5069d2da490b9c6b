"""Tests: unit, property, contract, integration, e2e and bench."""
