"""Figures: arrays in, frozen dataclasses out, and nothing read or run."""
