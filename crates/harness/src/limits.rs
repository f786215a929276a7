//! Every limit of this crate, with its unit and its reason. It holds numbers and must never hold behaviour.

use std::time::Duration;

/// Texts of the user that are kept word for word: for a judge, and across a compaction.
pub(crate) const SAID: usize = 20;
/// Bytes of one such text; the middle of a longer one is cut.
pub(crate) const SAID_BYTES: usize = 8 * 1024;
/// Bytes of what the application has said in system messages that outlives a compaction; the oldest goes.
pub(crate) const ORDERS_BYTES: usize = 32 * 1024;

/// Times that one reply which its provider paused is sent back to go on; then it stands as it is.
pub(crate) const PAUSES: u32 = 8;
/// Share of the window that a reply may fill before the transcript is condensed, in fifths.
pub(crate) const CROWDED_FIFTHS: u64 = 4;
/// Output limit of a summary in tokens, thinking included.
pub(crate) const SUMMARY_TOKENS: u32 = 16_384;
/// Requests for one summary: the transcript as it stands, then twice cut to what must fit.
pub(crate) const SUMMARY_TRIES: u32 = 3;
/// Bytes that surely make one token, for cutting: an estimate that errs towards a shorter transcript.
pub(crate) const BYTES_PER_TOKEN: usize = 2;
/// Bytes that are left of a tool result that was cut.
pub(crate) const CUT_TO: usize = 200;

/// Time for one judgement; a client who waits is better asked.
pub(crate) const JUDGE_TIME: Duration = Duration::from_secs(10);
/// Output limit of a judgement in tokens: one word, after whatever a model cannot help thinking.
pub(crate) const JUDGE_TOKENS: u32 = 1_024;
/// Bytes of a call's input that a judge reads; a larger one is the client's to decide.
pub(crate) const JUDGE_INPUT_BYTES: usize = 16 * 1024;
/// Calls of one reply that are judged; the rest is the client's to decide.
pub(crate) const JUDGED: usize = 32;
/// Judgements asked for at once.
pub(crate) const JUDGES: usize = 4;

/// Requests of one grader until its verdict: enough to look at many files, and an end.
pub(crate) const GRADER_ROUNDS: u32 = 30;
/// Answers that are no verdict before the outcome fails for want of one.
pub(crate) const GRADER_GARBAGE: u32 = 3;
/// Time for one request of a grader; after it the request has failed and is tried again.
pub(crate) const GRADE_TIME: Duration = Duration::from_secs(300);
/// How often a session shows that its grader is still at work.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Share of the window that the transcript has in a grader's question, as a divisor.
pub(crate) const GRADER_SEES: u32 = 2;
/// Bytes of a grader's explanation: the model works from it, and the session's object shows it.
pub(crate) const EXPLANATION_BYTES: usize = 16 * 1024;

/// Bytes of one line of a foreign loop: a tool's output stands in it twice, and pictures in base64.
pub(crate) const FOREIGN_LINE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of text that a tool of a foreign loop may have said; the rest is cut.
pub(crate) const FOREIGN_RESULT_BYTES: usize = 256 * 1024;
/// Bytes of a picture that a tool of a foreign loop shows, in base64.
pub(crate) const FOREIGN_RESULT_IMAGE_BYTES: usize = 5 * 1024 * 1024;
/// Bytes of one model request of a foreign loop or of a program, as the provider's own limit is.
pub(crate) const FOREIGN_REQUEST_BYTES: usize = 32 * 1024 * 1024;
/// Values and names of fields in one such request: ten times what a conversation of a million tokens has.
pub(crate) const FOREIGN_REQUEST_VALUES: usize = 256 * 1024;
/// Bytes that one of these takes at most when it is parsed: an object of one field is a node of a tree, of about 640 bytes
/// for three of them.
pub(crate) const FOREIGN_VALUE_BYTES: usize = 224;
/// Bytes that such requests of all sandboxes hold together, as they came and with their values: eight of the largest, as
/// at the gateway. For moments, while one is read or written, its texts are there twice.
pub(crate) const FOREIGN_BODIES_BYTES: usize = 8 * FOREIGN_REQUEST_BYTES;
/// Time for the body of such a request, from its head on: it comes from the same machine.
pub(crate) const FOREIGN_BODY: Duration = Duration::from_secs(60);
/// How long what comes of a refused body is thrown away, so that whoever sends it sees the answer.
pub(crate) const FOREIGN_REFUSED: Duration = Duration::from_secs(5);
/// When a request that found no room may come again.
pub(crate) const FOREIGN_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of a foreign loop's own transcript that is read; a longer one is made from the log.
pub(crate) const FOREIGN_TRANSCRIPT_BYTES: usize = 64 * 1024 * 1024;
/// How long a foreign loop that was taken over may take to say whether it was let run a call.
pub(crate) const FOREIGN_ACCOUNT: Duration = Duration::from_secs(30);
/// Connections to the model path of one sandbox.
pub(crate) const FOREIGN_CONNECTIONS: usize = 16;
/// Connections to the door of one sandbox.
pub(crate) const DOOR_CONNECTIONS: usize = 16;
/// Requests to the model that programs of one sandbox have in flight; more wait.
pub(crate) const DOOR_REQUESTS: usize = 4;
/// How long the head of a request to the door may take.
pub(crate) const DOOR_HEAD: Duration = Duration::from_secs(30);
/// How often a loop that waits for its model is told that it is not forgotten.
pub(crate) const FOREIGN_PING: Duration = Duration::from_secs(10);
/// How long a foreign loop may take from what it was told to its model request. Starting it is part of that.
pub(crate) const FOREIGN_SILENCE: Duration = Duration::from_secs(120);
/// How long a foreign loop may take to be there ahead of a session's first turn, which waits for it.
pub(crate) const FOREIGN_AHEAD: Duration = Duration::from_secs(30);
/// How long a foreign loop may take from its last answer to standing still; then it is ended, and made anew when it is
/// wanted.
pub(crate) const FOREIGN_REST: Duration = Duration::from_secs(15);
/// How long one that was ended may take to be gone, before the next starts all the same.
pub(crate) const FOREIGN_END: Duration = Duration::from_secs(10);

// One sandbox alone may hold half: the largest request that there can be must have room.
const _: () = assert!(
    2 * (FOREIGN_REQUEST_BYTES + FOREIGN_REQUEST_VALUES * FOREIGN_VALUE_BYTES)
        <= FOREIGN_BODIES_BYTES
);
