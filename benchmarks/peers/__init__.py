"""The peers' side of `compare_with_peers.py`: PyTorch, in an environment of its own.

Nothing here needs Keras, and nothing but `settings` can be imported without PyTorch.
"""
