//! The vault's suite: what opens, what does not, who is recognised, which model a vault chooses, how tokens stay
//! fresh and outlive a store that fails, and what replaces a placeholder.

mod authority;
mod kept;
mod keys;
mod llm;
mod master;
mod placeholder;
mod probe;
mod refresh;
mod rotation;
mod sealing;
