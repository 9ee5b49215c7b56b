"""Using trained models: whole clips in, whole clips out; no Lightning."""
