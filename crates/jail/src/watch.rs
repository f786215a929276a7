//! Owns the wait for a sandbox's end, and which server looks after it meanwhile. It starts and kills nothing.
//!
//! A sandbox ends for three reasons only: its PID 1 ended, its server said so, or nobody has adopted it
//! for as long as the plan allows. It belongs to one server at a time, and never again to an earlier one.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

use crate::carrier::{Carrier, Heard};
use crate::control::{self, SOCKET};
use crate::net::Network;
use crate::plan::{Live, Refusal, Report, Request, VERSION};

/// How often to look whether an orphan can still be found by anybody.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who looks after a sandbox, and who may.
pub(crate) struct Watch<'a> {
    pub(crate) live: Live,
    pub(crate) pid_one: BorrowedFd<'a>,
    /// What leads out of it, if anything does.
    pub(crate) network: Option<&'a Network>,
    /// Who carries that.
    pub(crate) carrier: Option<Carrier<'a>>,
    /// The sandbox's directory, and the socket that listens in it.
    pub(crate) directory: OwnedFd,
    pub(crate) listener: OwnedFd,
    /// Where the hand gets new lines.
    pub(crate) handover: OwnedFd,
    pub(crate) generation: u32,
    pub(crate) orphan: Duration,
    pub(crate) owner: Owner,
    /// Connected, and has not said yet what it wants.
    pub(crate) guest: Option<OwnedFd>,
}

/// The server that looks after a sandbox.
pub(crate) enum Owner {
    /// It is at the other end of this.
    Server(OwnedFd),
    /// It is gone, since then.
    Nobody(Instant),
}

/// Whether the wait is over.
#[derive(PartialEq, Eq)]
enum Then {
    Wait,
    End,
}

/// What has something to say.
struct Ready {
    pid_one: bool,
    owner: bool,
    guest: bool,
    listener: bool,
    carrier: Heard,
}

impl Watch<'_> {
    /// Tells the server that started it that the sandbox runs. One that has gone already may have said before
    /// that the sandbox is to end: what is heard next tells.
    pub(crate) fn begin(&mut self, live: Live) {
        if let Owner::Server(owner) = &self.owner {
            let started = Report::Started(live);
            let _ = control::send(owner, &started, &self.with_network(&[self.pid_one]));
        }
    }

    /// Returns when the sandbox has ended or is to be ended.
    pub(crate) fn until_the_end(&mut self) -> io::Result<()> {
        loop {
            let ready = self.ready()?;
            if let Some(carrier) = &mut self.carrier {
                carrier.hear(ready.carrier);
            }
            if ready.pid_one
                || ready.owner && self.hear_owner() == Then::End
                || ready.guest && self.hear_guest() == Then::End
                || self.is_given_up()
            {
                return Ok(());
            }
            if ready.listener
                && let Ok(guest) = control::accept(&self.listener)
            {
                // Whoever was there before and said nothing has had its time.
                self.guest = Some(guest);
            }
        }
    }

    /// Tells the server that looks after the sandbox now, if there is one.
    pub(crate) fn tell(&self, report: &Report) -> io::Result<()> {
        match &self.owner {
            Owner::Server(owner) => control::send(owner, report, &[]),
            Owner::Nobody(_) => Ok(()),
        }
    }

    /// Waits until something has something to say, or an orphan is to be looked at.
    fn ready(&self) -> io::Result<Ready> {
        let (owner, wait) = match &self.owner {
            Owner::Server(owner) => (Some(owner), None),
            Owner::Nobody(since) => {
                let left = self.orphan.saturating_sub(since.elapsed());
                (None, Timespec::try_from(left.min(LOOK_AGAIN)).ok())
            }
        };
        let carrier = self.carrier.as_ref().map(Carrier::watched);
        let [line, carries, tcp, dns] = carrier.unwrap_or_default();
        let fds = [
            Some(self.pid_one),
            owner.map(AsFd::as_fd),
            self.guest.as_ref().map(AsFd::as_fd),
            Some(self.listener.as_fd()),
            line,
            carries,
            tcp,
            dns,
        ];
        let polled = fds.iter().flatten();
        let mut polled: Vec<_> = polled
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut said = polled.iter().map(|fd| !fd.revents().is_empty());
        let [pid_one, owner, guest, listener, line, ended, tcp, dns] =
            fds.map(|fd| fd.is_some() && said.next().unwrap_or(false));
        Ok(Ready {
            pid_one,
            owner,
            guest,
            listener,
            carrier: Heard {
                line,
                ended,
                tcp,
                dns,
            },
        })
    }

    fn hear_owner(&mut self) -> Then {
        let Owner::Server(owner) = &self.owner else {
            return Then::Wait;
        };
        let heard = match control::receive(owner) {
            // It went without reading all it was told. Its own last word stands behind that error.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => control::receive(owner),
            heard => heard,
        };
        match heard {
            Ok(Some((Request::End, _))) => return Then::End,
            Ok(Some((Request::Adopt { .. }, _))) => {
                // It has what it asks for. Whether it hears that is its own affair.
                let _ = self.tell(&refused(Refusal::Owned));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Gone, or it talks nonsense: the next one may have the sandbox.
            Ok(None) | Err(_) => self.owner = Owner::Nobody(Instant::now()),
        }
        Then::Wait
    }

    fn hear_guest(&mut self) -> Then {
        let Some(guest) = self.guest.take() else {
            return Then::Wait;
        };
        match control::receive(&guest) {
            Ok(Some((
                Request::Adopt {
                    version,
                    generation,
                },
                _,
            ))) => {
                if let Err(why) = self.adopt(&guest, version, generation) {
                    // A guest that hears nothing asks again or gives up.
                    let _ = control::send(&guest, &refused(why), &[]);
                } else {
                    self.owner = Owner::Server(guest);
                }
            }
            Ok(Some((Request::End, _))) => {
                if matches!(self.owner, Owner::Nobody(_)) {
                    self.owner = Owner::Server(guest);
                    return Then::End;
                }
                let _ = control::send(&guest, &refused(Refusal::Owned), &[]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.guest = Some(guest),
            Ok(None) | Err(_) => {}
        }
        Then::Wait
    }

    /// Gives `guest` the sandbox: a pidfd of PID 1, and a line to the hand that nobody had before it, since
    /// two servers on one line would take each other's words.
    fn adopt(&mut self, guest: &OwnedFd, version: u32, generation: u32) -> Result<(), Refusal> {
        if version != VERSION {
            return Err(Refusal::Version);
        }
        if matches!(self.owner, Owner::Server(_)) {
            return Err(Refusal::Owned);
        }
        if generation <= self.generation {
            return Err(Refusal::Stale);
        }
        let line = self.new_line().map_err(|_| Refusal::Hand)?;
        self.generation = generation;
        let adopted = Report::Adopted(self.live.clone());
        // One that has gone meanwhile is no owner; the hand waits for the next line.
        let descriptors = [self.pid_one, line.as_fd()];
        control::send(guest, &adopted, &self.with_network(&descriptors)).map_err(|_| Refusal::Hand)
    }

    /// What is handed over, with the ends of the network behind it.
    fn with_network<'b>(&'b self, others: &[BorrowedFd<'b>]) -> Vec<BorrowedFd<'b>> {
        let network = self.network.map(Network::handed_on);
        let network = network.into_iter().flatten();
        others.iter().copied().chain(network).collect()
    }

    /// The server's end of a new line. Never waits for the hand, which may be anybody by now.
    fn new_line(&self) -> io::Result<OwnedFd> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        let line = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(&line)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.handover, &[IoSlice::new(b"l")], &mut beside, flags)?;
        Ok(ours)
    }

    /// Whether nobody has come for too long, or nobody can come: an orphan whose directory was removed
    /// is found by no server.
    fn is_given_up(&self) -> bool {
        let Owner::Nobody(since) = &self.owner else {
            return false;
        };
        since.elapsed() >= self.orphan
            || matches!(
                statat(&self.directory, SOCKET, AtFlags::SYMLINK_NOFOLLOW),
                Err(Errno::NOENT)
            )
    }
}

fn refused(why: Refusal) -> Report {
    Report::Refused { why }
}
