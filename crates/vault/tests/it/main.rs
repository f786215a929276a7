//! The vault's suite: what opens, what does not, who is recognised, and which model a vault chooses.

mod keys;
mod llm;
mod master;
mod sealing;
