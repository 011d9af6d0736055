-- Names of tables and columns of meta, meta_v2 and the device tables are KubeEdge's, so that
-- its tools read this file. Source: edge/pkg/metamanager/dao (KubeEdge of 2026).
CREATE TABLE meta (
  key VARCHAR(256) NOT NULL PRIMARY KEY,
  type VARCHAR(32) NOT NULL,
  value TEXT NOT NULL
);
CREATE INDEX meta_type ON meta (type);

CREATE TABLE meta_v2 (
  key VARCHAR(256) NOT NULL PRIMARY KEY,
  group_version_resource VARCHAR(256) NOT NULL,
  namespace VARCHAR(256) NOT NULL,
  name VARCHAR(256) NOT NULL,
  resource_version INTEGER NOT NULL,
  value TEXT NOT NULL
);
CREATE INDEX meta_v2_resource ON meta_v2 (group_version_resource, namespace, name);

-- What must reach the cloud and has not yet.
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  key TEXT UNIQUE,               -- newest wins among rows of one key; NULL keeps all
  priority INTEGER NOT NULL,     -- 0 is sent first
  confirm INTEGER NOT NULL,      -- 1: stays until the cloud answers; 0: until it is written
  created_ms INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  message TEXT NOT NULL
);

-- What was given up because the outbox was full or it was too old.
CREATE TABLE outbox_lost (
  reason TEXT NOT NULL PRIMARY KEY,
  messages INTEGER NOT NULL,
  bytes INTEGER NOT NULL
);
