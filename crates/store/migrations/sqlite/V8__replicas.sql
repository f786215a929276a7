-- Several servers on one database: there is one on a file, but what is stored has one form.

-- The server that has the session's workspace.
ALTER TABLE bindings ADD COLUMN host TEXT;
