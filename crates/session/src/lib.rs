//! The session core: a pure state machine. Commands and facts in; events, records and intents out. It never does IO, reads a clock or draws a random number.
