"""A catalogue of kept tokens: compress every item once, then look items up by id.

``sources`` reads items in chunks, ``compress`` makes a record of each item, and ``writer`` puts the records into the
LMDB environment that ``store`` opens; ``changes`` holds the steps of a build and of an update. ``catalog`` holds
``ItemCatalog``, which builds and looks up; ``ray`` builds with Ray Data. ``records`` is the format on the disk, and
``integrity`` checks the file.
"""
