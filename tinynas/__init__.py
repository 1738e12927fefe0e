"""tinynas: find a network that truly fits your microcontroller, train it, and export the int8 file."""

__version__ = "0.1.0"
