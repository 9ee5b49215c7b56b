"""Diff2Lip: lip-sync as inpainting of the lower half of a face by a diffusion model."""
