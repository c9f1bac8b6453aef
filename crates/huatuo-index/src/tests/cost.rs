//! What calls cost: bytes, requests and dependent trips.

use std::cell::RefCell;

use huatuo_fetch::{Counters, FetchError, Source};
use pollster::block_on;

use super::range_server::{Behaviour, RangeServer};
use super::sample::{Files, files, search, search_with, vector};
use crate::{Decoys, Effort, Index, IndexError, Kind, SearchQuery, Statistics};

const QUESTION: &str = "头痛三天";

/// Opens an index and forgets what opening cost.
fn opened(files: &Files, cache_bytes: usize) -> (Index, impl Fn() -> Counters + use<>) {
    let source = Source::memory(files.clone());
    let index = block_on(Index::open_with_cache(source.clone(), cache_bytes)).unwrap();
    let opening = source.counters();
    assert_eq!((opening.requests, index.opening().requests, index.opening().trips), (2, 2, 2));
    assert_eq!(opening.bytes, index.opening().bytes);
    let since = move || {
        let now = source.counters();
        Counters { bytes: now.bytes - opening.bytes, requests: now.requests - opening.requests }
    };
    (index, since)
}

#[test]
fn a_search_counts_what_it_reads_and_a_second_one_reads_nothing() {
    let files = files(20_000, 16);
    let (index, cost) = opened(&files, 64 << 20);
    let first = search(&index, QUESTION, Some(&vector(5, 16)), 10);
    let Statistics { bytes, requests, trips, lists, .. } = first.statistics;
    assert_eq!((bytes, requests), (cost().bytes, cost().requests));
    assert!((3..=5).contains(&trips) && lists > 1, "{trips} trips, {lists} lists");
    let second = search(&index, QUESTION, Some(&vector(5, 16)), 10);
    assert_eq!(second.hits, first.hits);
    assert_eq!((cost().requests, second.statistics.bytes, second.statistics.trips), (requests, 0, 0));
}

#[test]
fn effort_bounds_what_is_read() {
    let files = files(20_000, 64);
    let (index, _) = opened(&files, 0);
    let little =
        Effort { nodes: 2, list_bytes: 4 << 10, rerank: 10, expand: 0, rounds: 0, neighbours: 0, posting_bytes: 0 };
    let cost = |effort| search_with(&index, "", Some(&vector(5, 64)), 10, effort).statistics;
    let (small, large) = (cost(little), cost(Effort::default()));
    // Lists between two that are read come with them.
    assert!(small.bytes < 25_000 && small.trips == 3 && small.lists < 25, "{small:?}");
    assert!(large.bytes > 4 * small.bytes, "{large:?}");
}

#[test]
fn words_alone_cost_one_trip_and_a_second_one_for_what_frequent_terms_have_beyond() {
    let files = files(20_000, 4);
    let (index, _) = opened(&files, 0);
    let cost = |posting_bytes| search_with(&index, QUESTION, None, 10, Effort { posting_bytes, ..Effort::default() });
    let (without, with) = (cost(0), cost(1 << 20));
    assert_eq!((without.statistics.trips, with.statistics.trips), (1, 2));
    assert!(with.statistics.bytes > without.statistics.bytes);
    let best = |hits: &[crate::Hit]| hits.iter().map(|hit| hit.bm25.unwrap()).fold(0.0, f32::max);
    assert!(best(&with.hits) >= best(&without.hits) - 1e-4);
    // What is not read of postings, texts tell.
    let rows: Vec<u32> = with.hits.iter().map(|hit| hit.row).collect();
    let (records, _) = block_on(index.records(&rows)).unwrap();
    for (hit, record) in with.hits.iter().zip(records) {
        let of_text = without.terms.coverage(&record.question);
        assert!((of_text - hit.bm25_coverage.unwrap()).abs() < 1e-5, "{hit:?} {of_text}");
    }
    let least = without.hits.iter().map(|hit| hit.bm25_coverage.unwrap()).fold(1.0, f32::min);
    assert!(least < 0.99, "{least}");
}

#[test]
fn likely_texts_come_beside_neighbours() {
    let files = files(20_000, 16);
    let vector = vector(5, 16);
    // So little that neighbours are left to look at.
    let effort = Effort { list_bytes: 4 << 10, rerank: 10, ..Effort::default() };
    let query =
        SearchQuery { vector: Some(&vector), text: QUESTION, candidates: 10, effort, decoys: Decoys::default() };
    let trips = opened(&files, 64 << 20).0;
    let trips = block_on(trips.search(&query)).unwrap().statistics.trips;
    let (index, cost) = opened(&files, 64 << 20);
    let said = RefCell::new(Vec::new());
    let likely = |hits: &[crate::Hit]| {
        *said.borrow_mut() = hits.iter().filter(|hit| hit.dense.is_some()).take(3).map(|hit| hit.row).collect();
        said.borrow().clone()
    };
    let found = block_on(index.search_ahead(&query, likely)).unwrap().statistics;
    assert_eq!((found.bytes, found.requests, found.trips), (cost().bytes, cost().requests, trips));
    let said = said.into_inner();
    let (records, texts) = block_on(index.records(&said)).unwrap();
    assert_eq!((records.len(), texts.requests, texts.trips), (3, 0, 0));
}

#[test]
fn records_after_a_search_cost_one_trip_and_the_dictionary_once() {
    let files = files(20_000, 4);
    let (index, cost) = opened(&files, 64 << 20);
    let found = search(&index, "", Some(&vector(5, 4)), 10);
    let before = cost().requests;
    let rows: Vec<u32> = found.hits.iter().map(|hit| hit.row).collect();
    let (_, statistics) = block_on(index.records(&rows)).unwrap();
    assert!(index.segments[0].root.dictionary.is_some());
    assert_eq!((statistics.trips, cost().requests - before), (1, statistics.requests));
    let (_, again) = block_on(index.records(&rows)).unwrap();
    assert_eq!((again.requests, again.trips), (0, 0));
    let (_, others) = block_on(index.records(&[0, 19_999])).unwrap();
    assert_eq!((others.requests, others.trips), (4, 2)); // two cells, then two blocks
}

#[test]
fn the_first_record_is_there_before_the_others_at_the_same_cost() {
    let files = files(20_000, 4);
    let rows = [19_999, 0, 19_998, 1];
    let (index, cost) = opened(&files, 64 << 20);
    let (expected, _) = block_on(index.records(&rows)).unwrap();
    let total = cost();
    let (index, cost) = opened(&files, 64 << 20);
    let prepared = block_on(index.prepare_texts()).unwrap();
    assert_eq!((prepared.requests, cost().requests), (1, 1));
    let mut first = None;
    let seen = async |record: &crate::Record| first = Some(record.clone());
    let (records, statistics) = block_on(index.records_first(&rows, seen)).unwrap();
    assert_eq!(records, expected);
    assert_eq!(first.as_ref(), expected.first());
    assert_eq!((statistics.trips, cost()), (2, total));
    assert_eq!(block_on(index.prepare_texts()).unwrap(), Statistics::default());
}

#[test]
fn without_a_cache_everything_is_read_again() {
    let (index, cost) = opened(&files(100, 4), 0);
    let first = search(&index, QUESTION, None, 10).statistics;
    let second = search(&index, QUESTION, None, 10).statistics;
    assert_eq!((first.bytes, first.requests), (second.bytes, second.requests));
    assert_eq!(cost().bytes, first.bytes + second.bytes);
}

#[test]
fn a_question_without_vector_and_terms_costs_nothing() {
    let (index, cost) = opened(&files(100, 4), 0);
    let outcome = search(&index, "？？", None, 10);
    assert_eq!((outcome.hits.len(), cost().requests), (0, 0));
}

#[test]
fn statistics_add_up() {
    let part = Statistics {
        bytes: 1,
        requests: 2,
        stored_bytes: 7,
        trips: 3,
        lists: 4,
        fetch_ms: 0.5,
        scan_ms: 1.5,
        decode_ms: 2.5,
    };
    let mut sum = part;
    sum += part;
    let twice = Statistics {
        bytes: 2,
        requests: 4,
        stored_bytes: 14,
        trips: 6,
        lists: 8,
        fetch_ms: 1.0,
        scan_ms: 3.0,
        decode_ms: 5.0,
    };
    assert_eq!(sum, twice);
}

#[test]
fn an_index_is_read_over_http_with_as_many_requests_as_it_says() {
    let server = RangeServer::start(files(100, 4), Behaviour::Correct);
    let index = block_on(Index::open(Source::http(&server.url))).unwrap();
    assert_eq!(server.requests(), 2);
    let outcome = search(&index, QUESTION, Some(&vector(5, 4)), 10);
    assert_eq!(server.requests() as u64, 2 + outcome.statistics.requests);
}

#[test]
fn a_server_without_ranges_is_refused_on_opening() {
    let server = RangeServer::start(files(100, 4), Behaviour::IgnoresRanges);
    let error = block_on(Index::open(Source::http(&server.url))).unwrap_err();
    assert!(matches!(error, IndexError::Fetch(FetchError::RangesIgnored { .. })), "{error}");
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_failed_block_does_not_lose_the_others() {
    let mut files = files(20_000, 16);
    let place = super::sample::open(&files).segments[0].node(0);
    let pack = super::sample::open(&files).segments[0].at(&place).pack;
    files.get_mut(&pack).unwrap()[place.offset as usize + 40] ^= 1;
    let (index, cost) = opened(&files, 64 << 20);
    let effort = Effort { nodes: 50, ..Effort::default() };
    let query =
        SearchQuery { vector: Some(&vector(5, 16)), text: "", candidates: 10, effort, decoys: Decoys::default() };
    let failing = |error| matches!(error, Err(IndexError::Checksum { at, .. }) if at.kind == Kind::NODES);
    assert!(failing(block_on(index.search(&query))));
    let first = cost().bytes;
    assert!(failing(block_on(index.search(&query))));
    assert_eq!(cost().bytes - first, u64::from(place.length)); // only the damaged block was read again
}
