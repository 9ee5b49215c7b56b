"""SwapTalk's networks in the latent space of its VQGAN: face swapping and lip-sync."""
