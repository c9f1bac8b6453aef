//! What is found out about a host.

use std::fmt;

use crate::FetchError;

/// What every reader needs of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `manifest.json` is answered with 200 and lists packs.
    Manifest,
    /// Caches ask for the manifest again soon.
    ManifestCaching,
    /// A range at a pack's start is answered with 206, the exact `Content-Range` and exactly its bytes.
    FirstBytes,
    /// So is a range in a pack's middle.
    MiddleBytes,
    /// So is a pack's last byte.
    LastByte,
    /// `Content-Range` gives the size that the manifest gives.
    PackSize,
    /// Two ranges of a pack come with the same `ETag`.
    StableTag,
    /// A range is the same, and not encoded, for a client that accepts compression.
    Uncompressed,
    /// Caches keep packs for long.
    PackCaching,
    /// Pages of other origins may read manifest and packs.
    AllowedOrigin,
    /// Pages of other origins may see `Content-Range`.
    ExposedHeaders,
    /// A name that does not exist is answered with 404.
    MissingName,
}

/// How a host does by a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Readers work, but slower or at more cost than they could.
    Warn,
    /// Some readers fail.
    Fail,
    /// Not known; the finding's detail says why.
    NotTested,
}

/// What was found out about one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// How the host does by it.
    pub verdict: Verdict,
    /// What was seen, or why the rule could not be tested.
    pub detail: String,
    /// What to change, where something is to be changed.
    pub remedy: Option<&'static str>,
}

/// What was found out about a host, one finding a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// The address as given.
    pub url: String,
    /// In the order they were tested.
    pub findings: Vec<Finding>,
}

impl HostReport {
    /// The verdict on the host: [`Verdict::Fail`] if it fails by any rule, otherwise [`Verdict::NotTested`] if any could
    /// not be tested, then [`Verdict::Warn`], then [`Verdict::Pass`].
    pub fn verdict(&self) -> Verdict {
        let any = |verdict| self.findings.iter().any(|finding| finding.verdict == verdict);
        let by_weight = [Verdict::Fail, Verdict::NotTested, Verdict::Warn];
        by_weight.into_iter().find(|verdict| any(*verdict)).unwrap_or(Verdict::Pass)
    }
}

impl Rule {
    /// Rules that need a pack to be tested with.
    pub(super) const OF_PACKS: [Self; 9] = [
        Self::FirstBytes,
        Self::MiddleBytes,
        Self::LastByte,
        Self::PackSize,
        Self::StableTag,
        Self::Uncompressed,
        Self::PackCaching,
        Self::AllowedOrigin,
        Self::ExposedHeaders,
    ];

    pub(super) fn pass(self, detail: impl Into<String>) -> Finding {
        Finding { rule: self, verdict: Verdict::Pass, detail: detail.into(), remedy: None }
    }

    pub(super) fn warn(self, detail: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warn, remedy: Some(self.remedy()), ..self.pass(detail) }
    }

    pub(super) fn fail(self, detail: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Fail, remedy: Some(self.remedy()), ..self.pass(detail) }
    }

    pub(super) fn not_tested(self, reason: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::NotTested, ..self.pass(reason) }
    }

    /// A host that was not reached or had no time breaks no rule; it was not seen.
    pub(super) fn of_error(self, error: &FetchError) -> Finding {
        match error {
            FetchError::Network { .. } | FetchError::Busy { .. } => self.not_tested(error.to_string()),
            _ => self.fail(error.to_string()),
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Manifest => "give the address of the folder that holds manifest.json, and make its files public",
            Self::ManifestCaching => "send 'Cache-Control: no-cache' for manifest.json, and purge it at the CDN",
            Self::FirstBytes | Self::MiddleBytes | Self::LastByte => {
                "serve packs as plain files from a host that answers byte ranges with 206, with no rule that transforms them"
            }
            Self::PackSize => "upload all packs of this manifest again, then the manifest",
            Self::StableTag => "serve the same copy of each pack from every server, with strong ETags or none",
            Self::Uncompressed => "switch off compression and other transformations for *.pack, at server and CDN",
            Self::PackCaching => "send 'Cache-Control: public, max-age=31536000, immutable' for *.pack",
            Self::AllowedOrigin => {
                "send 'Access-Control-Allow-Origin: *' for all files, whether the request has an Origin or not; not needed \
                 if only pages of the same origin read the index"
            }
            Self::ExposedHeaders => {
                "send 'Access-Control-Expose-Headers: Content-Range'; not needed if only pages of the same origin read the \
                 index"
            }
            Self::MissingName => "answer 404 for files that do not exist, and switch off any fallback to a page",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest.json can be read",
            Self::ManifestCaching => "the manifest is not cached for long",
            Self::FirstBytes => "a range at a pack's start is exact",
            Self::MiddleBytes => "a range in a pack's middle is exact",
            Self::LastByte => "a pack's last byte is exact",
            Self::PackSize => "a pack has the manifest's size",
            Self::StableTag => "a pack's ETag is the same for each range",
            Self::Uncompressed => "ranges are never compressed",
            Self::PackCaching => "packs are cached for long",
            Self::AllowedOrigin => "other origins may read",
            Self::ExposedHeaders => "other origins see Content-Range",
            Self::MissingName => "a missing name is a 404",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::NotTested => "not tested",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10}  {}: {}", self.verdict, self.rule, self.detail)?;
        self.remedy.map_or(Ok(()), |remedy| write!(f, "\n            → {remedy}"))
    }
}

impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}
