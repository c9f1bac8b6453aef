//! Connections: how many there may be at once, and how long one may take to begin.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Bytes that tell HTTP/2 from HTTP/1, and no request has fewer. Only behind them the timers of the HTTP implementation run.
const BEGINNING: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// Accepts as many connections as there are places; others are closed at once.
#[derive(Clone)]
pub struct Bounded<A> {
    inner: A,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl<A> Bounded<A> {
    /// Gives each connection of `inner` one of `most` places, and so long to begin.
    pub fn new(inner: A, most: usize, patience: Duration) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), patience }
    }
}

impl<A, S> Accept<TcpStream, S> for Bounded<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
{
    type Stream = Connection<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let (accepted, late) = (self.inner.accept(stream, service), sleep(self.patience));
        Box::pin(async move {
            let place = place.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            let (stream, service) = accepted.await?;
            Ok((Connection { stream, missing: BEGINNING, late: Box::pin(late), _place: place }, service))
        })
    }
}

/// A connection with its place.
pub struct Connection<S> {
    stream: S,
    /// Bytes of the beginning that have not come yet.
    missing: usize,
    late: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, to);
        self.missing = self.missing.saturating_sub(to.filled().len() - before);
        if self.missing > 0 && read.is_pending() && self.late.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
