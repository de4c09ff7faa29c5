"""A catalogue of kept tokens: compress every item once, then look items up by id.

``catalog`` holds ``ItemCatalog``, the public class. ``store`` reads and writes the database, and ``ray`` builds one
with Ray Data.
"""
