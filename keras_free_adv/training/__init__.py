"""Models that train another model adversarially."""
