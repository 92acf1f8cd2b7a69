"""The `adapler` command: one module for each subcommand, one way to print and one way to fail."""
