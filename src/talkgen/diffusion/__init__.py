"""Diffusion: noise schedules, what is learned, and samplers. Nothing here knows of a network."""
