//! What decoys cost, and what a host can still tell.

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{files, vector};
use crate::dense_walk::DenseWalk;
use crate::walk::Walk;
use crate::{Decoys, Effort, Index, SearchQuery, Statistics};

const RECORDS: usize = 20_000;
const QUESTIONS: usize = 60;

fn index() -> Index {
    block_on(Index::open_with_cache(Source::memory(files(RECORDS, 16)), 0)).unwrap()
}

fn decoys(count: usize, question: u64) -> Decoys {
    Decoys { count, seed: 0x7eed ^ question.rotate_left(17), question }
}

/// A question that is like a record, and not the same.
fn question(n: usize) -> Vec<f32> {
    vector(n * 331 % RECORDS, 16).iter().zip(vector(n + 7, 16)).map(|(x, noise)| x + 0.1 * noise).collect()
}

#[test]
fn decoys_change_no_result_and_cost_about_their_number() {
    let index = index();
    // So little that decoys and question read different parts of a small index.
    let effort = Effort { nodes: 4, list_bytes: 8 << 10, rerank: 10, ..Effort::default() };
    let ask = |count| {
        let mut cost = Statistics::default();
        let ask = |n: usize| {
            let vector = question(n);
            let decoys = decoys(count, n as u64);
            let query = SearchQuery { vector: Some(&vector), text: "头痛", candidates: 10, effort, decoys };
            let found = block_on(index.search(&query)).unwrap();
            assert_eq!(found.decoys.len(), count);
            assert!(found.decoys.iter().all(|rows| rows.len() == 10));
            cost += found.statistics;
            found.hits
        };
        ((0..8).map(ask).collect::<Vec<_>>(), cost)
    };
    let ((plain, little), (hidden, much)) = (ask(0), ask(2));
    assert_eq!(plain, hidden);
    assert_eq!(little.trips, much.trips);
    let ratio = much.bytes as f64 / little.bytes as f64;
    assert!((1.5..3.5).contains(&ratio), "{ratio}");
}

/// Nodes that a walk's lists are of, with how many: what a host sees of it.
fn seen(mut walk: DenseWalk<'_>, index: &Index, nodes: &mut [usize]) {
    let asked = walk.wants();
    let mut ignored = Statistics::default();
    walk.take(&block_on(index.blocks(&asked, &mut ignored)).unwrap()).unwrap();
    let lists_of = |number: usize| {
        let place = index.segments[0].node(number as u32);
        let payload = block_on(index.blocks(&[place], &mut Statistics::default())).unwrap().remove(0);
        let node = index.segments[0].parse_node(&payload, number as u32).unwrap();
        node.lists.iter().map(|(_, offset, _)| (node.pack, *offset)).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..nodes.len()).map(lists_of).collect();
    for list in walk.wants() {
        let node = all.iter().position(|lists| lists.contains(&(u32::from(list.pack), list.offset)));
        nodes[node.unwrap()] += 1;
    }
}

/// How often a host that takes the node with most lists read is right about where a question's nearest records are.
fn guessed(index: &Index, count: usize) -> f64 {
    let effort = Effort { nodes: 4, list_bytes: 4 << 10, ..Effort::default() };
    let is_right = |n: &usize| {
        let vector = crate::vectors::normalise(&question(*n)).unwrap();
        let walk = |vector| DenseWalk::new(&index.segments[0], vector, effort, 10).unwrap();
        let mut nodes = vec![0; index.segments[0].root.nodes.len()];
        seen(walk(vector.clone()), index, &mut nodes);
        let own = (0..nodes.len()).max_by_key(|node| nodes[*node]);
        for decoy in decoys(count, *n as u64).walks(&index.segments, effort, 10).unwrap() {
            seen(decoy, index, &mut nodes);
        }
        (0..nodes.len()).max_by_key(|node| nodes[*node]) == own
    };
    (0..QUESTIONS).filter(is_right).count() as f64 / QUESTIONS as f64
}

#[test]
fn a_host_guesses_the_topic_less_often_the_more_decoys_there_are() {
    let index = index();
    let [alone, one, three] = [0, 1, 3].map(|count| guessed(&index, count));
    println!("a host's guess is right: alone {alone:.2}, one decoy {one:.2}, three {three:.2}");
    assert!(alone == 1.0 && one < 0.75 && three < one && three < 0.5, "{alone} {one} {three}");
}

#[test]
fn topics_of_decoys_stay_for_a_visit_and_change_between_visits() {
    let index = index();
    let nodes = |decoys: Decoys| {
        let mut walks = decoys.walks(&index.segments, Effort { nodes: 1, ..Effort::default() }, 10).unwrap();
        walks.iter_mut().map(|walk| walk.wants()[0].number).collect::<Vec<_>>()
    };
    let of = |seed, question| nodes(Decoys { count: 8, seed, question });
    let same = of(1, 0).iter().zip(of(1, 1)).filter(|(a, b)| **a == *b).count();
    let other = of(1, 0).iter().zip(of(2, 0)).filter(|(a, b)| **a == *b).count();
    assert!(same >= 5 && other <= 3, "{same} {other}");
}
