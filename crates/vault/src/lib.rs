//! Secrets at rest and their resolution. It never logs, prints or returns a secret except to the one caller that spends it.
