"""The command line: `main` finds the commands in this package's modules, each of which registers its own."""
