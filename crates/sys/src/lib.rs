//! Every kernel call that needs `unsafe`, each with its SAFETY argument. It decides nothing.
