//! The HTTP edge: routes, keys, envelopes, paging, streams, limits. It has no rules of its own.
