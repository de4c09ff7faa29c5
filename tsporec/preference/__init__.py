"""Learn which tokens to keep from preferences between token subsets of equal size."""
