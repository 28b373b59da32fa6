"""Where minibatches come from, and how they are replayed."""
