//! Hosts that misbehave in one way each, and the findings that tell it.

use super::{HostReport, Rule, Verdict, check_within};
use crate::tests::PATIENCE;
use crate::tests::range_server::{Behaviour, RangeServer};

const PACK: &str = "0123456789abcdef0123456789abcdef.pack";
const BYTES: usize = 10_000;

fn report(behaviour: Behaviour) -> HostReport {
    let manifest =
        format!(r#"{{"packs": [{{"name": "small.pack", "bytes": 20}}, {{"name": "{PACK}", "bytes": {BYTES}}}]}}"#);
    report_with(&manifest, behaviour)
}

fn report_with(manifest: &str, behaviour: Behaviour) -> HostReport {
    let pack = (0..BYTES).map(|i| (i % 251) as u8).collect();
    let files = [("manifest.json".to_owned(), manifest.into()), (PACK.to_owned(), pack)];
    let server = RangeServer::start(files.into(), behaviour);
    check_within(&format!("{}/", server.url), PATIENCE.silence)
}

fn rules(report: &HostReport, verdict: Verdict) -> Vec<Rule> {
    report.findings.iter().filter(|finding| finding.verdict == verdict).map(|finding| finding.rule).collect()
}

/// Asserts that these rules and no others fail, and that each failure says what to do.
fn assert_fails(behaviour: Behaviour, expected: &[Rule]) -> HostReport {
    let report = report(behaviour);
    assert_eq!(rules(&report, Verdict::Fail), expected, "{report}");
    assert!(report.findings.iter().all(|f| (f.verdict == Verdict::Fail) <= f.remedy.is_some()), "{report}");
    assert_eq!(report.verdict(), Verdict::Fail);
    report
}

#[test]
fn a_good_host_passes_every_rule() {
    let report = report(Behaviour::Correct);
    assert_eq!(rules(&report, Verdict::Pass).len(), 12, "{report}");
    assert_eq!(report.verdict(), Verdict::Pass);
    assert!(report.to_string().contains("\npass        a missing name is a 404: 404"), "{report}");
}

#[test]
fn a_host_that_ignores_ranges_is_told_once() {
    let report = assert_fails(Behaviour::IgnoresRanges, &[Rule::FirstBytes, Rule::AllowedOrigin, Rule::ExposedHeaders]);
    assert_eq!(rules(&report, Verdict::NotTested), Rule::OF_PACKS[1..6], "{report}");
}

#[test]
fn ranges_that_are_not_those_asked_for_are_found() {
    for behaviour in [Behaviour::ShiftsRanges, Behaviour::CutsBodies, Behaviour::Compresses { unasked: true }] {
        let report = assert_fails(behaviour, &[Rule::FirstBytes]);
        assert_eq!(rules(&report, Verdict::NotTested), Rule::OF_PACKS[1..6], "{report}");
    }
}

#[test]
fn a_host_that_falls_silent_does_not_hold_the_check() {
    let report = assert_fails(Behaviour::StallsInBodies, &[Rule::FirstBytes]);
    assert!(report.findings[2].detail.contains("nothing came for 300 ms after 8 bytes"), "{report}");
}

#[test]
fn compression_is_found_even_if_plain_ranges_are_right() {
    let report = assert_fails(Behaviour::Compresses { unasked: false }, &[Rule::Uncompressed]);
    assert_eq!(rules(&report, Verdict::Pass).len(), 11, "{report}");
}

#[test]
fn a_pack_of_another_size_is_found() {
    assert_fails(Behaviour::LostAByte, &[Rule::LastByte, Rule::PackSize]);
}

#[test]
fn a_page_instead_of_a_404_is_found() {
    let report = assert_fails(Behaviour::AnswersPages, &[Rule::MissingName]);
    assert!(report.to_string().contains("200 and content (text/html)"), "{report}");
}

#[test]
fn a_403_instead_of_a_404_is_found_with_its_own_remedy() {
    let report = assert_fails(Behaviour::Hides(403), &[Rule::MissingName]);
    assert!(report.to_string().contains("s3:ListBucket"), "{report}");
}

#[test]
fn a_host_for_its_own_origin_only_is_found() {
    let report = assert_fails(Behaviour::NoCors, &[Rule::AllowedOrigin, Rule::ExposedHeaders]);
    assert_eq!(rules(&report, Verdict::Warn), [Rule::MissingName], "{report}");
    assert_fails(Behaviour::NoExposedHeaders, &[Rule::ExposedHeaders]);
}

#[test]
fn a_manifest_kept_for_ever_fails_and_other_caching_is_a_warning() {
    let report = assert_fails(Behaviour::CachesWrongly, &[Rule::ManifestCaching]);
    assert_eq!(rules(&report, Verdict::Warn), [Rule::PackCaching, Rule::MissingName], "{report}");
}

#[test]
fn nothing_is_assumed_where_nothing_can_be_read() {
    for status in [403, 404, 500] {
        let report = report(Behaviour::Fails(status));
        assert_eq!(rules(&report, Verdict::Fail)[0], Rule::Manifest, "{report}");
        assert_eq!(rules(&report, Verdict::Pass), [Rule::MissingName].repeat(usize::from(status == 404)), "{report}");
        assert_eq!(rules(&report, Verdict::NotTested).len(), 10, "{report}");
    }
}

#[test]
fn a_busy_host_breaks_no_rule() {
    let report = report(Behaviour::Fails(503));
    assert_eq!(rules(&report, Verdict::NotTested).len(), 12, "{report}");
    assert_eq!(report.verdict(), Verdict::NotTested);
}

#[test]
fn an_address_without_a_host_or_without_an_index_fails_by_its_manifest() {
    // Port 9 (discard) is not served here.
    let nowhere = check_within("http://127.0.0.1:9", PATIENCE.silence);
    assert_eq!(rules(&nowhere, Verdict::Fail), [Rule::Manifest], "{nowhere}");
    for manifest in ["<!doctype html>", "{}", r#"{"packs": [{"name": "../a.pack", "bytes": 99}]}"#] {
        let report = report_with(manifest, Behaviour::Correct);
        assert_eq!(rules(&report, Verdict::Fail), [Rule::Manifest], "{report}");
    }
}

#[test]
fn an_index_of_empty_packs_leaves_the_rules_of_packs_untested() {
    let report = report_with(r#"{"packs": []}"#, Behaviour::Correct);
    assert_eq!(rules(&report, Verdict::NotTested), Rule::OF_PACKS, "{report}");
}
