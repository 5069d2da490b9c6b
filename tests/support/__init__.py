"""Real servers for the tests, on free ports in a folder of their own, started when first asked for."""
