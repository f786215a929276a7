//! The agent loop. A `Harness` turns steps of the session core into model calls and tool calls; it decides no policy and stores nothing itself.
