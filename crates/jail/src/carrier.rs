//! Owns what becomes of a sandbox's network while nobody carries it: who connects is reset at once, who asks for a
//! name is told that there is no answer now. It carries nothing, and touches nothing while somebody does.
//!
//! Whoever carries says so by one end of a pair, over a line that is handed on with the network's sockets: the
//! supervisor sees by it when that process ends, however it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{SocketFlags, accept_with};

use crate::control;
use crate::net::Network;

/// Connections and questions that are answered before anything else is looked at again.
const AT_ONCE: usize = 64;
/// Bytes of a question that is answered; a longer one gets none.
const QUESTION: usize = 1_232;
/// Bytes of the header of DNS (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// The network of a sandbox, and who carries it.
pub(crate) struct Carrier<'a> {
    network: &'a Network,
    /// Closed at the other end when nobody carries any more.
    carries: Option<OwnedFd>,
}

/// What has something to say.
#[derive(Clone, Copy, Default)]
pub(crate) struct Heard {
    pub(crate) line: bool,
    pub(crate) ended: bool,
    pub(crate) tcp: bool,
    pub(crate) dns: bool,
}

impl<'a> Carrier<'a> {
    /// Nobody carries yet.
    pub(crate) fn new(network: &'a Network) -> Self {
        Self {
            network,
            carries: None,
        }
    }

    /// What is to be waited for, in the order of [`Heard`].
    pub(crate) fn watched(&self) -> [Option<BorrowedFd<'_>>; 4] {
        let [tcp, dns] = if self.carries.is_none() {
            self.network.ends().map(Some)
        } else {
            [None; 2]
        };
        let carries = self.carries.as_ref().map(AsFd::as_fd);
        [Some(self.network.line()), carries, tcp, dns]
    }

    /// Does what is to be done. A word about who carries now is heard first: it was said before any connection that
    /// counts on it was made.
    pub(crate) fn hear(&mut self, heard: Heard) {
        if heard.ended {
            self.carries = None;
        }
        if heard.line {
            // It is one's own line: at worst nobody has said anything.
            while let Ok(Some((control::Carries, descriptors))) =
                control::receive(self.network.line())
            {
                self.carries = descriptors.into_iter().next();
            }
        }
        if self.carries.is_none() && heard.tcp {
            self.reset();
        }
        if self.carries.is_none() && heard.dns {
            self.give_no_answer();
        }
    }

    fn reset(&self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let [tcp, _] = self.network.ends();
        for _ in 0..AT_ONCE {
            match accept_with(tcp, flags) {
                // Where that cannot be set the connection ends in order, which says less.
                Ok(client) => drop(set_socket_linger(&client, Some(Duration::ZERO))),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    fn give_no_answer(&self) {
        let [_, dns] = self.network.ends();
        let mut question = [0; QUESTION + 1];
        for _ in 0..AT_ONCE {
            let Ok((length, peer, asked)) = sys::receive_to(dns, &mut question) else {
                return;
            };
            if let Some(answer) = question.get_mut(..length).and_then(unanswered) {
                // Whoever does not take it asks again.
                let _ = sys::send_from(dns, answer, peer, asked);
            }
        }
    }
}

/// The question as an answer that there is none (SERVFAIL); `None` for what is no question.
fn unanswered(question: &mut [u8]) -> Option<&[u8]> {
    const ANSWER: u8 = 0x80;
    const SERVER_FAILURE: u8 = 2;
    if !(HEADER..=QUESTION).contains(&question.len()) || question[2] & ANSWER != 0 {
        return None;
    }
    question[2] |= ANSWER;
    question[3] = ANSWER | SERVER_FAILURE;
    Some(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_told_that_there_is_no_answer_and_nothing_else_is_answered() {
        let mut question = [7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        let mut answer = unanswered(&mut question).unwrap().to_vec();
        assert_eq!(answer[..4], [7, 8, 0x81, 0x82]);
        assert_eq!(answer[4..], question[4..]);
        // An answer of ours would go round for ever.
        assert!(unanswered(&mut answer).is_none());
        assert!(unanswered(&mut [0; HEADER - 1]).is_none());
        assert!(unanswered(&mut [0; QUESTION + 1]).is_none());
    }
}
