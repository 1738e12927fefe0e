"""Emulated microcontrollers: builds C++ for a Cortex-M with the GNU tool chain, and runs it in qemu.

Knows cores, trees of TensorFlow Lite for Microcontrollers and executables; of models only the bytes.
"""
