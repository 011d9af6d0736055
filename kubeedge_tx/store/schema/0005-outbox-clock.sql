-- The outbox counts its messages' age by a clock of its own, which nobody can set.
CREATE TABLE outbox_clock (
  ms INTEGER NOT NULL
);
INSERT INTO outbox_clock VALUES (0);
UPDATE outbox SET created_ms = 0;
