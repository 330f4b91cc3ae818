//! Taking in connections.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::chain;

/// A machine that is out of descriptors needs a moment.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections come in by.
pub trait Listener {
    /// A connection.
    type Connection;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Listener for TcpListener {
    type Connection = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // What is written is whole; waiting for more only delays it.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

impl Listener for UnixListener {
    type Connection = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Hands every connection to `take` until `cancel` fires. `what` says in the log where they come in. A connection that
/// cannot be taken in is no reason to stop: the next one may come when others have gone.
pub async fn accept<L: Listener>(
    listener: &L,
    what: &str,
    cancel: &CancellationToken,
    mut take: impl FnMut(L::Connection),
) {
    while let Some(accepted) = cancel.run_until_cancelled(listener.next()).await {
        match accepted {
            Ok(connection) => take(connection),
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot accept a connection to {what}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Every third connection fails.
    struct Flaky(AtomicU32);

    impl Listener for Flaky {
        type Connection = u32;

        async fn next(&self) -> io::Result<u32> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            if number == 6 {
                std::future::pending::<()>().await;
            }
            if number % 3 == 2 { Err(io::Error::other("too many open files")) } else { Ok(number) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_that_fails_does_not_end_the_others() {
        let (cancel, taken) = (CancellationToken::new(), Mutex::new(Vec::new()));
        let listener = Flaky(AtomicU32::new(0));
        let accepting = accept(&listener, "a test", &cancel, |number| taken.lock().expect("sound").push(number));
        let end = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cancel.cancel();
        };
        tokio::join!(accepting, end);
        assert_eq!(*taken.lock().expect("sound"), [0, 1, 3, 4]);
    }
}
