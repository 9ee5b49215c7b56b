"""Three-dimensional faces: morphable models, their coefficients, and a rasterizer."""
