//! The load generator: requests made ahead, sent over kept-open connections, each sent when the one before is
//! answered. Every answer must be a success, or the run is void.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::http::Conn;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Wrong;
use crate::numbers::Sample;

/// One client: its connection and what it sends, in turn and round again.
pub(crate) struct Client {
    conn: Conn<TcpStream>,
    requests: Vec<Vec<u8>>,
    /// Answers after which it stops, whatever the time.
    most: usize,
}

impl Client {
    pub(crate) async fn new(
        address: SocketAddr,
        requests: Vec<Vec<u8>>,
        most: usize,
    ) -> Result<Self, Wrong> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            conn: Conn::new(stream),
            requests,
            most,
        })
    }

    /// Sends until `end`; one request every `pace`, or as fast as it is answered.
    async fn drive(mut self, end: Instant, pace: Option<Duration>) -> Result<Vec<Duration>, Wrong> {
        let mut latencies = Vec::with_capacity(self.most.min(4_096));
        let mut due = Instant::now();
        for request in self.requests.iter().cycle().take(self.most) {
            if let Some(pace) = pace {
                tokio::time::sleep_until(due.into()).await;
                due += pace;
            }
            let begun = Instant::now();
            if begun >= end {
                break;
            }
            let answer = self.conn.exchange(request).await?;
            latencies.push(begun.elapsed());
            if answer.status != 200 {
                let body = String::from_utf8_lossy(&answer.body);
                return Err(format!("{}: {body}", answer.status).into());
            }
        }
        Ok(latencies)
    }
}

/// Drives all clients at once for that time.
pub(crate) async fn slice(
    clients: Vec<Client>,
    time: Duration,
    pace: Option<Duration>,
) -> Result<Sample, Wrong> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(client.drive(begun + time, pace));
    }
    let mut sample = Sample::default();
    while let Some(done) = tasks.join_next().await {
        sample.latencies.extend(done??);
    }
    sample.took = begun.elapsed();
    Ok(sample)
}
