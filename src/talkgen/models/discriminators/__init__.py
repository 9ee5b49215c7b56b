"""Discriminators of the adversarial losses."""
