"""DisentTalk: motion by diffusion in parted subspaces of a morphable model's expression."""
