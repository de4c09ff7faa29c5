"""Small helpers that every folder uses. Nothing here is public, and nothing here knows tokens, items or models.

``files`` writes whole files, ``tensors`` writes and reads tensors with a checksum, ``locks`` locks folders, and
``digest`` names things by their content. ``progress`` shows how far work is, ``terminal`` makes texts printable, and
``seeds`` seeds random generators for a block of code. ``extras`` imports optional dependencies, and ``types`` checks
the types of arguments.
"""
