//! A scripted language model that speaks the real dialects over real HTTP. Only `longhand demo` and tests start it; nothing in the shipped path knows it.
