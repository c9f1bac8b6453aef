//! Why bytes could not be had.

/// One variant a failure that a caller may treat differently. `location` is a URL, a path or a name in memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The name has characters or segments that are not allowed.
    #[error("{name:?} is not a file name: use segments of letters, digits, '.', '_' and '-', separated by single '/'")]
    BadName {
        /// The name as given.
        name: String,
    },
    /// The range ends before it starts.
    #[error("the range {start}..{end} of {name} ends before it starts: give a start that is not above the end")]
    BadRange {
        /// The file.
        name: String,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// There is no such file.
    #[error("{location} does not exist: check the address and that all files were uploaded")]
    NotFound {
        /// URL, path or name.
        location: String,
    },
    /// The server answered a range request with the whole file, which was not read.
    #[error("the server of {url} ignores range requests: serve the files from a host that answers 206 to them")]
    RangesIgnored {
        /// The file's URL.
        url: String,
    },
    /// A 206 came with another range than was asked for, or with one that can't be read.
    #[error(
        "{url}: asked for 'bytes {expected}', the server sent Content-Range '{found}': switch off compression for \
         these files and, across origins, expose the Content-Range header"
    )]
    WrongRange {
        /// The file's URL.
        url: String,
        /// First and last byte as `a-b`.
        expected: String,
        /// The header as received, empty when there was none.
        found: String,
    },
    /// A 206 came compressed, so its bytes are not those of the file.
    #[error(
        "{url}: the server sends ranges with Content-Encoding '{encoding}': switch off compression for these files, at \
         the server and at every cache before it"
    )]
    Compressed {
        /// The file's URL.
        url: String,
        /// The header as received.
        encoding: String,
    },
    /// The server refuses to give the file to this reader (401 or 403).
    #[error(
        "{url}: the server answered with HTTP status {status}: make the files publicly readable, and allow this page's \
         address where the server restricts who may embed or load them"
    )]
    Forbidden {
        /// The file's URL.
        url: String,
        /// HTTP status code.
        status: u16,
    },
    /// The server has no time for the request (429 or 503), also when asked again.
    #[error("{url}: the server is busy (HTTP status {status}): try again {}", wait(.retry_after_s))]
    Busy {
        /// The file's URL.
        url: String,
        /// HTTP status code.
        status: u16,
        /// How many seconds the server asks to be left alone, where it says so and the platform lets it be seen.
        retry_after_s: Option<u64>,
    },
    /// The server failed (5xx other than 503).
    #[error("{url}: the server failed with HTTP status {status}: try again later, or tell whoever runs it")]
    ServerFailed {
        /// The file's URL.
        url: String,
        /// HTTP status code.
        status: u16,
    },
    /// The server answered with a status that has no variant of its own.
    #[error("{url}: the server answered with HTTP status {status}: check the address and the server's configuration")]
    Status {
        /// The file's URL.
        url: String,
        /// HTTP status code.
        status: u16,
    },
    /// The server took the request and then fell silent, before its answer or in the middle of it.
    #[error(
        "{url}: nothing came for {silent_ms} ms after {received} bytes of content: check the connection and try again"
    )]
    Stalled {
        /// The file's URL.
        url: String,
        /// How long was waited for the next byte, in milliseconds.
        silent_ms: u64,
        /// Bytes of content that came before.
        received: u64,
    },
    /// No usable answer came.
    #[error(
        "{url} could not be reached ({detail}): check the connection and, across origins, the server's CORS rules, and try again"
    )]
    Network {
        /// The file's URL.
        url: String,
        /// What the platform said.
        detail: String,
    },
    /// Fewer bytes came than were asked for.
    #[error(
        "{location}: {found} bytes came instead of {expected}: the file is cut off or the connection broke, try again"
    )]
    Truncated {
        /// URL, path or name.
        location: String,
        /// Bytes asked for.
        expected: u64,
        /// Bytes received.
        found: u64,
    },
    /// More bytes came, or would have to be held in memory, than can be accepted.
    #[error("{location} has more than the {limit} bytes that can be taken at once: check that it is the right file")]
    TooLarge {
        /// URL, path or name.
        location: String,
        /// Largest number of bytes accepted.
        limit: u64,
    },
    /// The file system failed.
    #[error("{path} could not be read ({detail}): check that it is a file and that it may be read")]
    Io {
        /// The file.
        path: String,
        /// What the operating system said.
        detail: String,
    },
}

fn wait(retry_after_s: &Option<u64>) -> String {
    match retry_after_s {
        Some(seconds) => format!("in {seconds} s"),
        None => "later".to_owned(),
    }
}
