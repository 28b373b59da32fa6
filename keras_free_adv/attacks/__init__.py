"""Attacks: Keras layers that turn images into adversarial images."""
