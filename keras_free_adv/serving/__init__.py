"""The trained model as artifacts for servers and devices, without its training."""
