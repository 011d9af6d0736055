"""MetaManager: the edge's copy of its objects."""
