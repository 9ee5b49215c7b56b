"""One LightningModule for each training stage, and the callbacks they share."""
