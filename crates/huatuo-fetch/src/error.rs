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
    /// The server answered with a status that is neither success nor 404.
    #[error("{url}: the server answered with HTTP status {status}: try again later or check its configuration")]
    Status {
        /// The file's URL.
        url: String,
        /// HTTP status code.
        status: u16,
    },
    /// No usable answer came.
    #[error("{url} could not be reached ({detail}): check the connection and try again")]
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
