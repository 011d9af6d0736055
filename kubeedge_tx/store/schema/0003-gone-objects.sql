-- Objects that were deleted or replaced, and the last version we had: what is heard of them
-- later comes from a cloud that is behind. The newest few thousand are kept.
CREATE TABLE gone_object (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  uid TEXT NOT NULL UNIQUE,
  resource_version TEXT NOT NULL
);
