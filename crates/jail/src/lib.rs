//! Set-up and supervision of one sandbox, in a fixed order. Linked only into the static helper; it never runs in the server.
