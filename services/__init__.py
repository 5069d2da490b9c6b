"""The running parts of the exchange, one folder each; `shared` holds what two or more of them use."""
