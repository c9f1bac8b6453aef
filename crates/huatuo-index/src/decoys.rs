//! Searches for nothing that go with a question, so that a host does not see which of several topics it is about.

use crate::dense_walk::DenseWalk;
use crate::rabitq::split_mix;
use crate::segment::{Place, Segment};
use crate::vectors::normalise;
use crate::{Effort, IndexError};

/// How far from its node's centre a decoy lies, as a share of that centre's distance from the mean: questions don't lie at centres.
const SPREAD: f32 = 0.5;

/// Decoys that go with a question. For one seed their topics stay the same, as a patient's does: only what changes from question to
/// question would tell them from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoys {
    /// Searches beside the question's own.
    pub count: usize,
    /// What their topics are drawn from: kept for a visit, and nobody else's to know.
    pub seed: u64,
    /// Number of the question within the visit.
    pub question: u64,
}

impl Decoys {
    /// Walks over the segment that has most records, each to records near a random one of its nodes.
    pub(crate) fn walks<'a>(
        self,
        segments: &'a [Segment],
        effort: Effort,
        wanted: usize,
    ) -> Result<Vec<DenseWalk<'a>>, IndexError> {
        let largest = segments.iter().max_by_key(|segment| segment.root.records);
        let Some(segment) = largest.filter(|segment| !segment.root.nodes.is_empty()) else { return Ok(Vec::new()) };
        let topics = 0..self.count as u64;
        topics.map(|topic| DenseWalk::new(segment, self.vector(segment, topic), effort, wanted)).collect()
    }

    fn vector(self, segment: &Segment, topic: u64) -> Vec<f32> {
        let mut of_visit = self.seed ^ topic.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let node = below(&mut of_visit, segment.root.nodes.len() as u64) as usize;
        let mut of_question = split_mix(&mut of_visit) ^ self.question;
        let bytes = segment.rotation.code_bytes();
        let centre = segment.rotation.decode(&segment.root.codes[node * bytes..][..bytes], segment.dimensions);
        let length = centre.iter().map(|x| x * x).sum::<f32>().sqrt();
        // A sum of uniform numbers is normal enough, and its length nearly the same each time.
        let mut noise = || (0..12).map(|_| split_mix(&mut of_question) as f32 / u64::MAX as f32 - 0.5).sum::<f32>();
        let scale = SPREAD * length / (segment.dimensions as f32).sqrt();
        let vector: Vec<f32> =
            segment.root.mean.iter().zip(centre).map(|(mean, offset)| mean + offset + scale * noise()).collect();
        normalise(&vector).unwrap_or(vector) // sums of finite numbers are finite
    }

    /// Shards of terms that nobody looks for, so many for each that a question reads.
    pub(crate) fn shards(self, segments: &[Segment], read: &[Place]) -> Vec<Place> {
        let mut state = self.seed.rotate_left(32) ^ self.question;
        let places = read.iter().flat_map(|place| vec![&segments[usize::from(place.segment)]; self.count]);
        places.filter_map(|segment| segment.shard(below(&mut state, segment.root.shards.len() as u64) as u32)).collect()
    }
}

fn below(state: &mut u64, end: u64) -> u64 {
    split_mix(state) % end.max(1)
}
