"""Networks that judge: lip-sync experts and identity recognisers."""
