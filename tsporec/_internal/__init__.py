"""Small helpers that every folder uses. Nothing here is public, and nothing here knows tokens, items or models.

``files`` writes whole files, ``digest`` names things by their content, and ``extras`` imports optional dependencies.
``seeds`` seeds random generators for a block of code.
"""
