"""``python -m tinynas``."""

from tinynas.cli import main

if __name__ == "__main__":
    main()
