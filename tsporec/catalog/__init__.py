"""A catalogue of kept tokens: compress every item once, then look items up by id.

``build`` turns items into records, ``store`` keeps them in one LMDB environment, and ``catalog`` holds ``ItemCatalog``,
which looks them up. ``sources`` reads items, ``records`` is the format on disk, and ``ray`` builds with Ray Data.
"""
