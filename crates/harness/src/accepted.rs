//! Owns how connections come in by a socket that is held inside a sandbox: so many at once, and each ends with who accepts
//! them. It reads nothing of what they say.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Serves each connection, at most so many at once; others wait to be accepted. Cancel safe: all of them end with it.
pub(crate) async fn accepted<F>(listener: &TcpListener, most: usize, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Of this one connection: the listener is ours.
            tokio::task::yield_now().await;
            continue;
        };
        let served = serve(stream);
        connections.spawn(async move {
            served.await;
            drop(permit);
        });
    }
}
