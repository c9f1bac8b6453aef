//! What calls cost: bytes, requests and dependent trips.

use huatuo_fetch::{Counters, FetchError, Source};
use pollster::block_on;

use super::range_server::{Behaviour, RangeServer};
use super::sample::{Files, files, search, vector};
use crate::terms::{shard_of, term_keys};
use crate::{Index, IndexError, Kind, SearchQuery, Statistics};

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

fn shards_of_question(index: &Index) -> usize {
    let mut shards: Vec<u32> = term_keys(QUESTION).iter().map(|key| shard_of(*key, index.directory.shards)).collect();
    shards.sort_unstable();
    shards.dedup();
    shards.iter().filter_map(|shard| index.directory.shard(*shard)).count()
}

#[test]
fn a_search_reads_vectors_and_shards_in_one_trip_and_a_second_one_nothing() {
    let files = files(20_000, 16);
    let (index, cost) = opened(&files, 64 << 20);
    let first = search(&index, QUESTION, Some(&vector(5, 16)), 10);
    let requests = (index.directory.vectors.len() + shards_of_question(&index)) as u64;
    assert!(index.directory.vectors.len() == 5 && index.directory.shards > 1);
    assert_eq!(cost().requests, requests);
    let Statistics { bytes, requests: counted, trips, .. } = first.statistics;
    assert_eq!((bytes, counted, trips), (cost().bytes, requests, 1));
    let second = search(&index, QUESTION, Some(&vector(5, 16)), 10);
    assert_eq!(second.hits, first.hits);
    assert_eq!((cost().requests, second.statistics.bytes, second.statistics.trips), (requests, 0, 0));
}

#[test]
fn records_read_the_text_blocks_they_need_and_the_dictionary_once() {
    let files = files(20_000, 4);
    let (index, cost) = opened(&files, 64 << 20);
    let block_of = |row: u32| index.directory.text_of(row).unwrap();
    assert!(index.directory.dictionary.is_some() && block_of(0) != block_of(19_999) && block_of(0) == block_of(1));
    let (_, statistics) = block_on(index.records(&[19_999, 0, 1])).unwrap();
    assert_eq!((cost().requests, statistics.requests, statistics.trips), (3, 3, 1)); // two blocks and the dictionary
    let (_, statistics) = block_on(index.records(&[0, 10_000])).unwrap();
    assert_eq!((statistics.requests, statistics.trips), (1, 1));
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
    assert_eq!((statistics.requests, statistics.trips, cost()), (2, 1, total));
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
    let part = Statistics { bytes: 1, requests: 2, trips: 3, fetch_ms: 0.5, scan_ms: 1.5, decode_ms: 2.5 };
    let mut sum = part;
    sum += part;
    let twice = Statistics { bytes: 2, requests: 4, trips: 6, fetch_ms: 1.0, scan_ms: 3.0, decode_ms: 5.0 };
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
    let healthy = super::sample::open(&files);
    let vectors = healthy.directory.vectors[2];
    let pack = healthy.manifest().packs[vectors.pack as usize].name.clone();
    if let Some(content) = files.get_mut(&pack) {
        content[vectors.offset as usize + 40] ^= 1;
    }
    let (index, cost) = opened(&files, 64 << 20);
    let query = SearchQuery { vector: Some(&vector(5, 16)), text: "", top_k: 1, candidates: 10 };
    let failing = |error| matches!(error, Err(IndexError::Checksum { at, .. }) if at.kind == Kind::VECTORS);
    assert!(failing(block_on(index.search(&query))));
    assert!(failing(block_on(index.search(&query))));
    assert_eq!(cost().requests, 5 + 1); // only the damaged block was read again
}
