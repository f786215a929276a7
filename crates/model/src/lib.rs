//! Model providers: one request type, one streamed reply, several dialects. It knows nothing of sessions, tools that run, or storage.
