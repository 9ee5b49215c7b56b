"""The VQGAN of SwapTalk: encoder, decoder, and one codebook for each half of the face."""
