"""Reads national registers of organisations into lines of the exchange's directory."""
