"""One module per sub-command of `ehcp`."""
