"""The parts of the catalogue store; :class:`tsporec.ItemCatalog` is its face.

``layout`` says what lies on disk, ``keys`` turns item ids into arrays, ``compress`` items into kept tokens,
``shard`` and ``index`` are the two kinds of file, ``writer`` makes a snapshot and ``reader`` reads one.
"""
