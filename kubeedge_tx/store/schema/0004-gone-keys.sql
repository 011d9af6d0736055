-- The last version that was gone under a key, whatever uid it had, and when that object was
-- created: what is neither newer nor created later is heard from a cloud that is behind.
DROP TABLE gone_object;
CREATE TABLE gone_key (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  resource_version TEXT NOT NULL,
  created TEXT NOT NULL
);
