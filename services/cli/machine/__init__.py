"""The embedded machine: everything one computer needs to run the whole exchange on real parts."""
