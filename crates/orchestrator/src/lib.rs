//! Everything that happens without a request: leases, runs, recovery. It obeys the session core and never edits a session itself.
