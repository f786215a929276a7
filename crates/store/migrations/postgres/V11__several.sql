-- What several servers on one database say of themselves.

-- The newest master key that a server can open secrets under, as it said last; nothing of a build that says nothing.
ALTER TABLE replicas ADD COLUMN key_version BIGINT;
