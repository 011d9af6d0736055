-- Devices on this node and their twins. Names of tables and columns are KubeEdge's, so that its
-- tools read this file. Source: edge/pkg/devicetwin/dtclient and edge/pkg/metamanager/dao/models.
CREATE TABLE device (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  state TEXT NOT NULL,
  last_online TEXT NOT NULL
);

CREATE TABLE device_attr (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  deviceid TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL DEFAULT '',
  value TEXT NOT NULL,
  optional INTEGER NOT NULL,
  attr_type TEXT NOT NULL,
  metadata TEXT NOT NULL
);
CREATE UNIQUE INDEX device_attr_name ON device_attr (deviceid, name);

CREATE TABLE device_twin (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  deviceid TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL DEFAULT '',
  expected TEXT,
  actual TEXT,
  expected_meta TEXT,
  actual_meta TEXT,
  expected_version TEXT,
  actual_version TEXT,
  optional INTEGER NOT NULL,
  attr_type TEXT NOT NULL,
  metadata TEXT NOT NULL
);
CREATE UNIQUE INDEX device_twin_name ON device_twin (deviceid, name);

-- Which state of a Device object the twins have taken in.
CREATE TABLE device_object (
  deviceid TEXT NOT NULL PRIMARY KEY,
  uid TEXT NOT NULL,
  resource_version TEXT NOT NULL,
  desired TEXT NOT NULL          -- JSON: property to value or null
);

-- Topics of rules, subscribed at every start. Source: edge/pkg/eventbus/dao.
CREATE TABLE sub_topics (
  topic TEXT NOT NULL PRIMARY KEY
);
