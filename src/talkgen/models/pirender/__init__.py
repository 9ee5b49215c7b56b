"""PIRenderer (Ren et al., ICCV 2021): a source picture and motion coefficients to a picture."""
