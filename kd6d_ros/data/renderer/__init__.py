"""Headless physically based renderer (moderngl over EGL); start reading at ``renderer.py``."""
