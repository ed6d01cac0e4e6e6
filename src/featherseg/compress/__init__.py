"""Smaller, faster networks: fewer channels (:mod:`.prune`), int8 (:mod:`.qdq`, :mod:`.qat`), 16 bits (:mod:`.half`)."""
