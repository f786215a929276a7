-- What the servers on one database say of themselves, for people.

-- Where a server listens, and how many sandboxes run on it.
ALTER TABLE replicas ADD COLUMN address TEXT, ADD COLUMN sandboxes BIGINT NOT NULL DEFAULT 0;
