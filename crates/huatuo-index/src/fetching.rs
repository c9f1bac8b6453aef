//! Reading many blocks in one trip: what lies close together comes in one request.

use std::collections::HashSet;

use futures_util::future::join_all;
use huatuo_fetch::clock::now_ms;
use huatuo_fetch::{FetchError, Source};

use crate::segment::{Place, Segment};
use crate::{BlockAt, IndexError, Statistics};

/// Bytes between two blocks that are read in vain rather than asked around: a request costs a browser more than these do, even where its
/// round trip is shared with others.
const WASTED_BYTES: u64 = 4 << 10;

/// Reads places together; gives the bytes of each, in order.
pub(crate) async fn fetch(
    source: &Source,
    segments: &[Segment],
    places: &[Place],
    statistics: &mut Statistics,
) -> Vec<Result<Vec<u8>, IndexError>> {
    let start = now_ms();
    let runs = runs(places);
    let read = runs.iter().map(|(run, length)| {
        let first = &places[run[0]];
        let at = segments[usize::from(first.segment)].at(first);
        async move { read_block(source, &at, *length).await }
    });
    let fetched = join_all(read).await;
    statistics.fetch_ms += now_ms() - start;
    statistics.trips += u64::from(!runs.is_empty());
    statistics.requests += runs.len() as u64;
    let mut out: Vec<Option<Result<Vec<u8>, IndexError>>> = places.iter().map(|_| None).collect();
    for ((run, _), bytes) in runs.iter().zip(fetched) {
        statistics.bytes += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        for position in run {
            let from = (places[*position].offset - places[run[0]].offset) as usize;
            let own = |bytes: &Vec<u8>| bytes[from..from + places[*position].length as usize].to_vec();
            out[*position] = Some(bytes.as_ref().map(own).map_err(Clone::clone));
        }
    }
    out.into_iter().flatten().collect()
}

/// Those of some places that are read anyway, because they lie between two that are asked for and come in one request with them.
pub(crate) fn between(asked: &[Place], others: impl Iterator<Item = Place>) -> Vec<Place> {
    let start = |place: &Place| (place.segment, place.pack, place.offset);
    let runs: Vec<(Place, u64)> =
        runs(asked).into_iter().map(|(run, length)| (asked[run[0]], asked[run[0]].offset + length)).collect();
    let known: HashSet<&Place> = asked.iter().collect();
    let lies_in_run = |place: &Place| {
        let after = runs.partition_point(|(first, _)| start(first) <= start(place));
        runs[..after].last().is_some_and(|(first, end)| {
            (first.segment, first.pack) == (place.segment, place.pack) && place.offset + u64::from(place.length) <= *end
        })
    };
    others.filter(|place| !known.contains(place) && lies_in_run(place)).collect()
}

/// Places that are read by one request each, as positions in the order of their bytes, and how many bytes that is.
fn runs(places: &[Place]) -> Vec<(Vec<usize>, u64)> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|position| {
        let place = &places[*position];
        (place.segment, place.pack, place.offset)
    });
    let mut runs: Vec<(Vec<usize>, u64)> = Vec::new();
    for position in order {
        let place = &places[position];
        let end = place.offset + u64::from(place.length);
        if let Some((run, length)) = runs.last_mut() {
            let first = &places[run[0]];
            let reached = first.offset + *length;
            if (first.segment, first.pack) == (place.segment, place.pack) && place.offset <= reached + WASTED_BYTES {
                run.push(position);
                *length = end.max(reached) - first.offset;
                continue;
            }
        }
        runs.push((vec![position], u64::from(place.length)));
    }
    runs
}

/// Reads bytes of a pack from where a block begins.
pub(crate) async fn read_block(source: &Source, at: &BlockAt, length: u64) -> Result<Vec<u8>, IndexError> {
    let at = at.clone();
    source.read(&at.pack, Some(at.offset..at.offset + length)).await.map_err(|error| match error {
        // A named pack that is gone means that the manifest was replaced and this one is stale.
        FetchError::NotFound { .. } => IndexError::VersionMix { pack: at.pack.clone() },
        FetchError::Truncated { expected, found, .. } => IndexError::Truncated { at: at.clone(), expected, found },
        other => IndexError::Fetch(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn place(pack: u16, offset: u64, length: u32) -> Place {
        Place { segment: 0, kind: Kind::LISTS, pack, offset, length, number: 0 }
    }

    #[test]
    fn what_lies_close_together_is_read_at_once_and_in_any_order() {
        let places = [place(0, 9000, 100), place(0, 100, 100), place(1, 0, 10), place(0, 300, 50), place(0, 100, 100)];
        assert_eq!(runs(&places), [(vec![1, 4, 3], 250), (vec![0], 100), (vec![2], 10)]);
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn what_lies_between_two_that_come_together_is_read_anyway() {
        let asked = [place(0, 100, 100), place(0, 1000, 100), place(0, 9000, 100), place(1, 0, 100)];
        let (inside, edge, outside) = (place(0, 500, 100), place(0, 1050, 100), place(0, 5000, 100));
        let others = [asked[1], inside, edge, outside, place(1, 500, 100)];
        assert_eq!(between(&asked, others.into_iter()), [inside]);
    }
}
