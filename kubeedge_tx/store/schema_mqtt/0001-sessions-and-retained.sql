-- What the MQTT broker must still know after a restart.
CREATE TABLE session (
  client_id TEXT NOT NULL PRIMARY KEY,
  expiry INTEGER NOT NULL,        -- seconds after the connection ends; 4294967295: never
  expires_at REAL,                -- Unix time; NULL: it was connected
  user TEXT NOT NULL,
  will BLOB                       -- msgpack
) WITHOUT ROWID;

CREATE TABLE subscription (
  client_id TEXT NOT NULL,
  filter TEXT NOT NULL,
  qos INTEGER NOT NULL,
  no_local INTEGER NOT NULL,
  retain_as_published INTEGER NOT NULL,
  retain_handling INTEGER NOT NULL,
  identifier INTEGER NOT NULL,
  PRIMARY KEY (client_id, filter)
) WITHOUT ROWID;

-- One row for each publish, however many sessions it waits in.
CREATE TABLE message (
  number INTEGER NOT NULL PRIMARY KEY,
  topic TEXT NOT NULL,
  payload BLOB NOT NULL,
  qos INTEGER NOT NULL,
  retain INTEGER NOT NULL,
  publisher TEXT NOT NULL,
  properties BLOB NOT NULL,       -- as on the wire
  expires_at REAL                 -- Unix time
);

CREATE TABLE queue (
  client_id TEXT NOT NULL,
  number INTEGER NOT NULL,        -- their order
  message INTEGER NOT NULL,
  packet_id INTEGER NOT NULL,     -- 0: not sent yet
  qos INTEGER NOT NULL,
  retain INTEGER NOT NULL,
  identifiers TEXT NOT NULL,      -- of the subscriptions, with commas
  released INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (client_id, number)
) WITHOUT ROWID;
CREATE INDEX queue_message ON queue (message);

-- Packet identifiers of QoS 2 that were received and not released yet.
CREATE TABLE incoming (
  client_id TEXT NOT NULL,
  packet_id INTEGER NOT NULL,
  PRIMARY KEY (client_id, packet_id)
) WITHOUT ROWID;

CREATE TABLE retained (
  topic TEXT NOT NULL PRIMARY KEY,
  number INTEGER NOT NULL,
  payload BLOB NOT NULL,
  qos INTEGER NOT NULL,
  publisher TEXT NOT NULL,
  properties BLOB NOT NULL,
  expires_at REAL
);
