"""Token ids as arrays, and what they spell.

``ragged`` packs segments of ids into one array. ``pieces`` and ``spelling`` read what each vocabulary id spells and
where words begin, and ``words`` groups tokens into words. ``letter_hashes`` finds equal runs of letters, and
``fingerprint`` names a tokenizer by its content.
"""
