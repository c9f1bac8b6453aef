//! Names that do not exist: a reader must be able to tell that a pack is gone, because the index was replaced.

use super::caching;
use super::finding::{Finding, Rule};
use super::host::{Answer, Host, ORIGIN};
use crate::FetchError;
use crate::reply::check_head;

/// Named like a pack, and like none that is ever written.
const NAME: &str = "00000000000000000000000000000000.pack";

pub(super) fn check(host: &Host) -> Finding {
    let rule = Rule::MissingName;
    let answer = match host.get(NAME, &[("accept-encoding", "identity"), ("origin", ORIGIN)], 0) {
        Ok(answer) => answer,
        Err(error) => return rule.of_error(&error),
    };
    let status = answer.head.status;
    match check_head(&host.url(NAME), &answer.head, None) {
        Err(FetchError::NotFound { .. }) => not_found(&answer),
        Err(error @ FetchError::Busy { .. }) => rule.of_error(&error),
        Err(FetchError::Forbidden { .. }) => Finding {
            remedy: Some(
                "S3 hides what is missing from readers that may not list: grant s3:ListBucket to them (to CloudFront, \
                 where it is in between), or otherwise answer 404",
            ),
            ..rule.fail(format!("a name that does not exist is answered with {status}"))
        },
        _ => {
            let kind = answer.header("content-type").unwrap_or_else(|| "no type".to_owned());
            rule.fail(format!("a name that does not exist is answered with {status} and content ({kind})"))
        }
    }
}

/// A 404 must reach the reader, and be forgotten when the name exists later.
fn not_found(answer: &Answer) -> Finding {
    let (rule, status) = (Rule::MissingName, answer.head.status);
    let caching = answer.header("cache-control").unwrap_or_default();
    if caching::is_long(&caching) {
        let remedy = Some("send the Cache-Control of packs with 200 and 206 only");
        return Finding { remedy, ..rule.warn(format!("{status}, but it may be kept: Cache-Control is '{caching}'")) };
    }
    if answer.header("access-control-allow-origin").is_none() {
        let remedy = Some("send the Access-Control headers with every status");
        return Finding {
            remedy,
            ..rule.warn(format!("{status}, but other origins may not see it and take it for a broken connection"))
        };
    }
    rule.pass(format!("{status}"))
}
