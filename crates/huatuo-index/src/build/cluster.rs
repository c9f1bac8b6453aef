//! One partition's nodes and lists, which rows stand as guests in which lists, and each row's nearest neighbours.

use rayon::prelude::*;

use super::centroids::{Vectors, mean, split, unit_row};
use super::work::damaged;
use crate::IndexError;
use crate::dense_walk::best;
use crate::varint::{Cursor, put};
use crate::vectors::row_bytes;

/// Rows a list is meant to have: small ones waste least, and cost a code each in their node.
const LIST_ROWS: usize = 32;
/// Nodes whose lists are looked at for a row.
const NODES_NEAR: usize = 12;
/// Lists whose rows are looked at for a row's neighbours.
const LISTS_NEAR: usize = 64;
/// A row is a guest of another list when that is at most this many times as far, in squared distance, as its own.
pub(crate) const GUEST_RATIO: f32 = 1.15;

/// A partition, put in order. Rows are named by their positions in it: own rows first, then those of neighbouring partitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Clusters {
    /// Own rows in the order they get; rows of a list follow one another, lists of a node too.
    pub order: Vec<u32>,
    /// Number of lists of each node.
    pub nodes: Vec<u32>,
    pub lists: Vec<ListRows>,
    /// Squared distance of each own row, in `order`, from its list's centroid.
    pub distances: Vec<f32>,
    /// Neighbours of each own row, in `order`.
    pub neighbours: Vec<Vec<u32>>,
}

/// A list's rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ListRows {
    /// How many rows of `order` belong to it.
    pub own: u32,
    /// Rows of other lists or partitions near it, with their squared distance from its centroid.
    pub guests: Vec<(u32, f32)>,
}

fn distance(product: f32) -> f32 {
    (2.0 - 2.0 * product).max(0.0)
}

/// Puts a partition in order. `own` of its vectors belong to it, the others are guests of it.
pub(crate) fn cluster(vectors: &Vectors<'_>, own: usize, node_rows: usize, neighbours: usize, seed: u64) -> Clusters {
    let members: Vec<u32> = (0..own as u32).collect();
    let mut clusters = Clusters::default();
    let (node_rows_of, nodes) = chained(vectors, split(vectors, &members, node_rows, seed), &mut Vec::new());
    let (mut list_rows_of, mut lists, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for node in node_rows_of {
        let of_node = split(vectors, &node, LIST_ROWS, seed.wrapping_add(1));
        clusters.nodes.push(of_node.len() as u32);
        let (rows, middles) = chained(vectors, of_node, &mut last);
        list_rows_of.extend(rows);
        lists.extend(middles);
    }
    let near = Near::new(
        vectors,
        Vectors::new(&nodes, vectors.dimensions),
        Vectors::new(&lists, vectors.dimensions),
        &clusters.nodes,
    );
    let lists_near: Vec<Vec<(f32, u32)>> = (0..vectors.len()).into_par_iter().map(|row| near.lists(row)).collect();
    let mut list_of = vec![u32::MAX; vectors.len()];
    for (list, rows) in list_rows_of.iter().enumerate() {
        rows.iter().for_each(|row| list_of[*row as usize] = list as u32);
    }
    let list_rows_of = move_to_nearest(&mut list_of[..own], &lists_near, list_rows_of);
    let of_list = |rows: &Vec<u32>| -> Vec<u32> {
        chain(vectors.gather(rows), vectors.dimensions, &mut Vec::new())
            .into_iter()
            .map(|position| rows[position])
            .collect()
    };
    let list_rows_of: Vec<Vec<u32>> = list_rows_of.par_iter().map(of_list).collect();
    for rows in &list_rows_of {
        clusters.lists.push(ListRows { own: rows.len() as u32, guests: Vec::new() });
        clusters.order.extend_from_slice(rows);
    }
    for (row, lists) in lists_near.iter().enumerate() {
        if let Some((list, far)) = near.guest(row, list_of[row], lists) {
            clusters.lists[list as usize].guests.push((row as u32, far));
        }
    }
    let from_own = |row: &u32| distance(near.lists.product(list_of[*row as usize] as usize, vectors, *row as usize));
    clusters.distances = clusters.order.par_iter().map(from_own).collect();
    // Rows of neighbouring partitions count as those of their nearest list here.
    let mut rows_of = list_rows_of;
    for (row, near) in lists_near.iter().enumerate().skip(own) {
        if let Some((_, list)) = near.first() {
            rows_of[*list as usize].push(row as u32);
        }
    }
    let gathered = Gathered::new(vectors, &rows_of);
    let nearest = |row: &u32| gathered.nearest(neighbours, &lists_near[*row as usize], *row);
    clusters.neighbours = clusters.order.par_iter().map(nearest).collect();
    clusters
}

/// Groups in the order of a [`chain`] of their middles, and these.
fn chained(vectors: &Vectors<'_>, mut groups: Vec<Vec<u32>>, last: &mut Vec<u8>) -> (Vec<Vec<u32>>, Vec<u8>) {
    let middles: Vec<u8> = groups.iter().flat_map(|group| unit_row(&mean(vectors, group)).0).collect();
    let order = chain(middles.clone(), vectors.dimensions, last);
    let middles = Vectors::new(&middles, vectors.dimensions);
    let in_order = order.iter().flat_map(|group| middles.row(*group)).copied().collect();
    (order.iter().map(|group| std::mem::take(&mut groups[*group])).collect(), in_order)
}

/// An order in which each row is followed by the nearest that is left, the first being the nearest to `last`, which becomes the last one:
/// what a question reads lies closer together, and takes fewer requests.
fn chain(mut rows: Vec<u8>, dimensions: usize, last: &mut Vec<u8>) -> Vec<usize> {
    let bytes = row_bytes(dimensions);
    let mut left: Vec<usize> = (0..rows.len() / bytes).collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let next = match last.is_empty() {
            true => 0,
            false => Vectors::new(&rows, dimensions).nearest(1, &Vectors::new(last, dimensions), 0)[0].1 as usize,
        };
        order.push(left.remove(next));
        *last = rows.drain(next * bytes..(next + 1) * bytes).collect();
    }
    order
}

/// Moves each row to the list that is nearest to it, of whatever node, as long as that has room.
fn move_to_nearest(list_of: &mut [u32], lists_near: &[Vec<(f32, u32)>], rows_of: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    let mut sizes: Vec<usize> = rows_of.iter().map(Vec::len).collect();
    for (list, near) in list_of.iter_mut().zip(lists_near) {
        let Some((_, nearest)) = near.first() else { continue };
        if nearest != list && sizes[*nearest as usize] < 2 * LIST_ROWS && sizes[*list as usize] > 1 {
            sizes[*nearest as usize] += 1;
            sizes[*list as usize] -= 1;
            *list = *nearest;
        }
    }
    let mut moved = vec![Vec::new(); rows_of.len()];
    list_of.iter().zip(0..).for_each(|(list, row)| moved[*list as usize].push(row));
    moved
}

/// Rows of lists behind one another: scoring a list's rows where they came in with the input waits for memory at each of them.
struct Gathered<'a> {
    vectors: &'a Vectors<'a>,
    bytes: Vec<u8>,
    rows: Vec<u32>,
    /// Position of the first row of each list, and of the end.
    firsts: Vec<usize>,
}

impl<'a> Gathered<'a> {
    fn new(vectors: &'a Vectors<'a>, rows_of: &[Vec<u32>]) -> Self {
        let rows = rows_of.concat();
        let bytes = vectors.gather(&rows);
        let mut firsts = vec![0];
        rows_of.iter().for_each(|rows| firsts.push(firsts[firsts.len() - 1] + rows.len()));
        Self { vectors, bytes, rows, firsts }
    }

    /// The `count` rows of some lists nearest to a row, without itself.
    fn nearest(&self, count: usize, lists: &[(f32, u32)], row: u32) -> Vec<u32> {
        let gathered = Vectors::new(&self.bytes, self.vectors.dimensions);
        let (mut scored, mut products) = (Vec::new(), Vec::new());
        for (_, list) in lists {
            let positions = self.firsts[*list as usize]..self.firsts[*list as usize + 1];
            gathered.products(positions.clone(), self.vectors, row as usize, &mut products);
            let of_list = products.iter().copied().zip(self.rows[positions].iter().copied());
            scored.extend(of_list.filter(|(_, other)| *other != row));
        }
        // Collected from a borrow: taking the scores over would keep room for all of them.
        best(scored, count).iter().map(|(_, row)| *row).collect()
    }
}

/// Finds the lists near a row by way of the nodes.
struct Near<'a> {
    vectors: &'a Vectors<'a>,
    nodes: Vectors<'a>,
    lists: Vectors<'a>,
    /// First list of each node, and one more.
    first_lists: Vec<u32>,
}

impl<'a> Near<'a> {
    fn new(vectors: &'a Vectors<'a>, nodes: Vectors<'a>, lists: Vectors<'a>, counts: &[u32]) -> Self {
        let mut first_lists = vec![0];
        counts.iter().for_each(|count| first_lists.push(first_lists[first_lists.len() - 1] + count));
        Self { vectors, nodes, lists, first_lists }
    }

    fn lists(&self, row: usize) -> Vec<(f32, u32)> {
        let nodes = self.nodes.nearest(NODES_NEAR, self.vectors, row);
        let (mut scored, mut products) = (Vec::new(), Vec::new());
        for (_, node) in nodes {
            let lists = self.first_lists[node as usize]..self.first_lists[node as usize + 1];
            self.lists.products(lists.start as usize..lists.end as usize, self.vectors, row, &mut products);
            scored.extend(products.iter().copied().zip(lists));
        }
        let mut near = best(scored, LISTS_NEAR);
        near.shrink_to_fit();
        near
    }

    /// The list that a row is a guest of: the nearest that is not its own, if it is hardly farther, and if the row lies between both
    /// and not behind its own (the closure of SPANN; Chen et al., NeurIPS 2021, section 3.2).
    fn guest(&self, row: usize, own: u32, lists: &[(f32, u32)]) -> Option<(u32, f32)> {
        let &(product, list) = lists.iter().find(|(_, list)| *list != own)?;
        let far = distance(product);
        if own == u32::MAX {
            return Some((list, far)); // whether it is near enough, only its own partition knows
        }
        let from_own = distance(self.lists.product(own as usize, self.vectors, row));
        let between = distance(self.lists.product(own as usize, &self.lists, list as usize)) > far;
        (far <= GUEST_RATIO * from_own && between).then_some((list, far))
    }
}

impl Clusters {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut number = |number: u64| put(&mut out, number);
        number(self.order.len() as u64);
        number(self.nodes.len() as u64);
        number(self.lists.len() as u64);
        self.order.iter().chain(&self.nodes).for_each(|n| number(u64::from(*n)));
        self.distances.iter().for_each(|distance| number(u64::from(distance.to_bits())));
        for list in &self.lists {
            number(u64::from(list.own));
            number(list.guests.len() as u64);
            list.guests.iter().for_each(|(row, far)| {
                number(u64::from(*row));
                number(u64::from(far.to_bits()));
            });
        }
        for rows in &self.neighbours {
            number(rows.len() as u64);
            rows.iter().for_each(|row| number(u64::from(*row)));
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let read = || {
            let mut cursor = Cursor::new(bytes);
            let (rows, nodes, lists) = (cursor.count(1)?, cursor.count(1)?, cursor.count(1)?);
            let mut column = |count| (0..count).map(|_| cursor.varint_u32()).collect::<Result<Vec<u32>, _>>();
            let (order, nodes) = (column(rows)?, column(nodes)?);
            let distances = column(rows)?.into_iter().map(f32::from_bits).collect();
            let mut list_rows = Vec::new();
            for _ in 0..lists {
                let (own, count) = (cursor.varint_u32()?, cursor.count(1)?);
                let guest = |_| Ok((cursor.varint_u32()?, f32::from_bits(cursor.varint_u32()?)));
                list_rows.push(ListRows {
                    own,
                    guests: (0..count).map(guest).collect::<Result<_, crate::error::Malformed>>()?,
                });
            }
            let mut neighbours = Vec::new();
            for _ in 0..rows {
                let count = cursor.count(1)?;
                neighbours.push((0..count).map(|_| cursor.varint_u32()).collect::<Result<_, _>>()?);
            }
            cursor.finish()?;
            Ok(Self { order, nodes, lists: list_rows, distances, neighbours })
        };
        read().map_err(|rule: crate::error::Malformed| damaged(rule.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{normalise, put_row};

    fn vectors(count: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for n in 0..count {
            let vector: Vec<f32> = (0..24)
                .map(|d| ((n * 31 + d * 17 + n * d) as f32).sin() + if d == n % 7 { 3.0 } else { 0.0 })
                .collect();
            put_row(&mut out, &normalise(&vector).unwrap(), 1.0);
        }
        out
    }

    #[test]
    fn a_chain_goes_to_the_nearest_that_is_left() {
        let on_circle = |degrees: &[f32]| -> Vec<u8> {
            let mut out = Vec::new();
            for angle in degrees.iter().map(|degrees| degrees.to_radians()) {
                put_row(&mut out, &[angle.cos(), angle.sin()], 1.0);
            }
            out
        };
        let rows = on_circle(&[0.0, 50.0, 10.0, 30.0, 20.0]);
        let mut last = Vec::new();
        assert_eq!(chain(rows.clone(), 2, &mut last), [0, 2, 4, 3, 1]);
        assert_eq!(last, on_circle(&[50.0]));
        assert_eq!(chain(rows, 2, &mut on_circle(&[28.0])), [3, 4, 2, 0, 1]);
    }

    #[test]
    fn every_own_row_has_one_list_and_its_true_neighbours() {
        let bytes = vectors(600);
        let vectors = Vectors::new(&bytes, 24);
        let clusters = cluster(&vectors, 500, 200, 5, 1);
        let mut rows = clusters.order.clone();
        rows.sort_unstable();
        assert_eq!(rows, (0..500).collect::<Vec<_>>());
        assert_eq!(clusters.lists.iter().map(|list| list.own).sum::<u32>(), 500);
        assert_eq!(clusters.nodes.iter().sum::<u32>() as usize, clusters.lists.len());
        let exact = |row: u32| -> Vec<u32> {
            let others = (0..600)
                .filter(|other| *other != row)
                .map(|other| (vectors.product(other as usize, &vectors, row as usize), other));
            best(others.collect(), 5).into_iter().map(|(_, row)| row).collect()
        };
        let found: usize = clusters
            .order
            .iter()
            .zip(&clusters.neighbours)
            .map(|(row, found)| exact(*row).iter().filter(|row| found.contains(row)).count())
            .sum();
        assert!(found > 2400, "{found} of 2500");
        assert!(clusters.lists.iter().any(|list| list.guests.iter().any(|(row, _)| *row >= 500)));
        assert_eq!(Clusters::decode(&clusters.encode()).unwrap(), clusters);
    }
}
