"""The same algorithm on TensorFlow, JAX and PyTorch.

These tests run on the backend in use (`KERAS_BACKEND=jax pytest tests/backends`), and
compare it with what `reference` computes on TensorFlow in a process of its own.
"""
