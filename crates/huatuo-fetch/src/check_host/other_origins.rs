//! Cross-origin resource sharing: what a page of another origin may read of an answer (Fetch standard, "CORS protocol").

use super::finding::{Finding, Rule};
use super::host::{Answer, Host, ORIGIN};
use super::manifest::{MANIFEST_NAME, Pack};
use crate::FetchError;

/// Checks [`Rule::AllowedOrigin`] and [`Rule::ExposedHeaders`]. The files were asked for before without an `Origin`, so a
/// cache that keeps the answer of that for everyone is seen.
pub(super) fn check(host: &Host, pack: &Pack) -> [Finding; 2] {
    let headers = [("accept-encoding", "identity"), ("origin", ORIGIN)];
    // Only the heads matter.
    let manifest = host.get(MANIFEST_NAME, &headers, 0);
    let range = host.range(&pack.name, &(0..16), &headers);
    [allowed_origin(&manifest, &range, pack), exposed_headers(&range)]
}

fn allowed_origin(manifest: &Result<Answer, FetchError>, range: &Result<Answer, FetchError>, pack: &Pack) -> Finding {
    let rule = Rule::AllowedOrigin;
    let mut varies = true;
    for (name, answer) in [(MANIFEST_NAME, manifest), (&pack.name, range)] {
        let answer = match seen(rule, answer) {
            Ok(answer) => answer,
            Err(finding) => return finding,
        };
        match answer.header("access-control-allow-origin").as_deref().map(str::trim) {
            Some("*") => {}
            Some(ORIGIN) => varies &= answer.lists("vary", "origin") || answer.lists("vary", "*"),
            Some(other) => return rule.fail(format!("{name} allows '{other}' and not {ORIGIN}")),
            None => return rule.fail(format!("{name} comes without Access-Control-Allow-Origin")),
        }
    }
    match varies {
        true => rule.pass(format!("a page of {ORIGIN} may read manifest and packs")),
        false => {
            rule.warn("the origin is repeated without 'Vary: Origin', so a cache may send one page's answer to another")
        }
    }
}

fn exposed_headers(range: &Result<Answer, FetchError>) -> Finding {
    const NAME: &str = "access-control-expose-headers";
    let rule = Rule::ExposedHeaders;
    match seen(rule, range) {
        Err(finding) => finding,
        Ok(answer) if answer.lists(NAME, "content-range") || answer.lists(NAME, "*") => {
            rule.pass("Content-Range is exposed")
        }
        Ok(answer) => match answer.header(NAME) {
            Some(list) => rule.fail(format!("only '{list}' is exposed")),
            None => rule.fail("no header is exposed"),
        },
    }
}

/// The answer, if it is about the file.
fn seen(rule: Rule, answer: &Result<Answer, FetchError>) -> Result<&Answer, Finding> {
    match answer {
        Ok(answer) if answer.is_success() => Ok(answer),
        Ok(answer) => Err(rule.not_tested(format!("the answer was HTTP status {}", answer.head.status))),
        Err(error) => Err(rule.not_tested(error.to_string())),
    }
}
