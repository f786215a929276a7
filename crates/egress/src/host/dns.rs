//! The resolver of one sandbox, over UDP and TCP. It asks nobody: what is answered is decided in
//! [`crate::dns`].

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::carried::Carried;
use crate::audit::{Action, Kind, Record};
use crate::dns::{Answer, Query, answer_for, write_answer};
use crate::limits;

/// How long to wait when nothing can be received.
const RECEIVE_AGAIN: Duration = Duration::from_millis(10);

/// Answers every datagram that comes to port 53 of any address, as from that address.
pub(super) async fn serve(carried: Arc<Carried>, socket: UdpSocket) {
    let mut buffer = vec![0; limits::DNS_QUERY + 1];
    loop {
        let received = tokio::select! {
            () = carried.over.cancelled() => return,
            received = receive(&socket, &mut buffer) => received,
        };
        let (length, peer, asked) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(sandbox = carried.name, %error, "no datagram is received");
                sleep(RECEIVE_AGAIN).await;
                continue;
            }
        };
        let packet = buffer.get(..length).unwrap_or_default();
        if let Some(reply) = answer(&carried, packet, asked).await {
            // Whoever asked and does not take the answer asks again.
            let _ = sys::send_from(socket.as_fd(), &reply, peer, asked);
        }
    }
}

async fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> std::io::Result<(usize, SocketAddr, IpAddr)> {
    let receive = || sys::receive_to(socket.as_fd(), buffer);
    socket.async_io(Interest::READABLE, receive).await
}

/// The same over a connection: each message with its length before it.
pub(super) async fn converse(carried: &Carried, mut client: TcpStream, asked: IpAddr) {
    let mut packet = vec![0; limits::DNS_QUERY];
    let conversation = async {
        loop {
            let length = usize::from(client.read_u16().await?);
            let Some(packet) = packet.get_mut(..length) else {
                return Ok::<_, std::io::Error>(());
            };
            client.read_exact(packet).await?;
            let Some(reply) = answer(carried, packet, asked).await else {
                return Ok(());
            };
            let length = u16::try_from(reply.len()).map_err(std::io::Error::other)?;
            // At once: some clients take what they read first for all of it.
            let whole = [&length.to_be_bytes(), reply.as_slice()].concat();
            client.write_all(&whole).await?;
        }
    };
    // Stub resolvers ask and go; who only holds the connection loses it.
    let _ = timeout(limits::FIRST_BYTES, conversation).await;
}

/// What that packet is answered, recorded if it is refused.
async fn answer(carried: &Carried, packet: &[u8], asked: IpAddr) -> Option<Vec<u8>> {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(malformed) => return malformed.reply().map(Vec::from),
    };
    let policy = carried.policy();
    let now = carried.host.seconds();
    let answer = answer_for(
        &query,
        &policy,
        policy.on_denied(),
        &mut carried.pool(),
        now,
    );
    if let Answer::Failed(rcode) = answer {
        let name = query.name.as_ref().ok().map(ToString::to_string);
        let reason = format!("a question for {:?} is answered {rcode:?}", query.record);
        let record = Record {
            name,
            address: Some(asked.to_canonical()),
            port: Some(53),
            ..carried
                .host
                .record(carried, Kind::Dns, "dns", Action::Denied, "dns", reason)
        };
        carried.host.audit.record(record).await.ok()?;
    }
    Some(write_answer(&query, answer))
}
