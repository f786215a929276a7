//! Persistence behind named async operations. It never leaks a driver type or a transaction, and holds no rule of its own: `session` decides, it stores.
