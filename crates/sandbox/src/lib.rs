//! Isolated, persistent sandboxes behind a `Provider`. It never runs a command outside a sandbox, whatever the host lacks.
