"""Small helpers that every folder uses: whole files, digests, optional dependencies.

Nothing here knows about tokens, items or models. Nothing here is public.
"""
