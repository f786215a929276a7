//! Guarded dialling: every address a tenant can name is checked at connect time against the always-denied set. It knows no HTTP semantics.
