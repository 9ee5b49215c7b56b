"""Video files: probing, decoding at any frame rate, encoding, muxing."""
