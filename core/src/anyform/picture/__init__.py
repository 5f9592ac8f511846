"""A toolkit for backends that look at pictures: encoded bytes of strangers to RGB, and on to rows.

Pillow is imported in its backend.py alone; it is the extra `anyform[picture]`.
"""
