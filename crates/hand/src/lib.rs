//! PID 1 inside a sandbox, and the protocol spoken with it. It trusts nobody inside and holds no secret.
