-- What a sandbox may reach by rules of its own, as JSON; one that has none has no row. `sandbox` is the session's id, or
-- the name that an operator gave it.
CREATE TABLE sandbox_rules (
  sandbox    TEXT PRIMARY KEY,
  body       TEXT NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
