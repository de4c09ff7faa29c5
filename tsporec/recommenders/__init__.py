"""Reference recommenders: what rewards and evaluations run on. Yours can stand in their place.

``encoder`` turns item texts into vectors, ``embedding`` ranks items by vectors as HLLM does, and ``generative`` ranks
them by the likelihood of their titles after a prompt.
"""
