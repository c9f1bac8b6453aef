//! Connections: how many there may be at once, how long one may take to begin, and how long to take what it is sent.

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
    /// Gives each connection of `inner` one of `most` places, and so long to begin and to take what is written to it.
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
        let patience = self.patience;
        let (accepted, late) = (self.inner.accept(stream, service), sleep(patience));
        Box::pin(async move {
            let place = place.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            let (stream, service) = accepted.await?;
            let (late, unread) = (Box::pin(late), None);
            Ok((Connection { stream, missing: BEGINNING, late, patience, unread, _place: place }, service))
        })
    }
}

/// A connection with its place.
pub struct Connection<S> {
    stream: S,
    /// Bytes of the beginning that have not come yet.
    missing: usize,
    late: Pin<Box<Sleep>>,
    patience: Duration,
    /// Ready when what was written is still not taken; there from the first write that has to wait to the next flush that has not.
    unread: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    /// What a write or flush gave, or an error where the client takes nothing for too long: whoever asks and never reads would keep
    /// a place, key or not, since behind a full buffer no deadline of an answer is noticed. A byte now and then is not enough.
    fn unless_unread<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let patience = self.patience;
        match written.is_pending()
            && self.unread.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(context).is_ready()
        {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => written,
        }
    }
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
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_unread(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.unread = None;
        }
        self.unless_unread(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.unless_unread(ended, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.unless_unread(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
