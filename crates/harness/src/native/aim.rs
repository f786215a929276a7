//! An outcome as the working model is told of it, and the verdicts on its work. The wording is part of the
//! transcript: it is the same bytes each time.

use serde::{Deserialize, Serialize};

/// What is to be reached. Also a storage format: fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Aim {
    /// In the client's words.
    pub(crate) description: String,
    /// How it is judged, in the client's words.
    pub(crate) rubric: String,
}

impl Aim {
    /// What the model is told of it.
    pub(crate) fn shown(&self) -> String {
        format!(
            "Reach this outcome:\n{}\n\nIt is judged by this rubric:\n{}\n\nWork until every point of the \
             rubric is met, then stop and say what you did. A grader then compares your work with the rubric: \
             it sees this conversation and can read the files, and you will be told what it misses.",
            self.description, self.rubric
        )
    }
}

/// What the model is told of the end of an iteration.
pub(crate) fn verdict(result: &str, explanation: &str) -> String {
    match result {
        "needs_revision" => format!(
            "A grader compared your work with the rubric. It is not there yet:\n\n{explanation}\n\nRevise \
             your work accordingly."
        ),
        "max_iterations_reached" => format!(
            "A grader compared your work with the rubric. It is not there yet:\n\n{explanation}\n\nThis was \
             the last iteration: do not revise any more. Tell the user in a few words what was reached and \
             what is missing."
        ),
        "satisfied" => format!("A grader found that the outcome is reached:\n\n{explanation}"),
        "interrupted" => "The user stopped the work on the outcome.".to_owned(),
        _ => format!("The outcome was given up:\n\n{explanation}"),
    }
}
