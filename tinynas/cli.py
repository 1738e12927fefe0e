"""The command line: arguments in, one call, lines out."""


def main() -> None:
    """Entry point of the console script."""
