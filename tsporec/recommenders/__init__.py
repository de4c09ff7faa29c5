"""Reference recommenders: what rewards and benchmarks run on. Yours can stand in their place."""
