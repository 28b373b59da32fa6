"""The Keras side of `compare_with_peers.py`."""
