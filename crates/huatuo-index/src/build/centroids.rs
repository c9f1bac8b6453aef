//! Spherical k-means over int8 rows. Products of steps are whole numbers and sums run in the order of rows, so the outcome does
//! not depend on threads or machines.

use std::ops::Range;

use rayon::prelude::*;

use crate::rabitq::split_mix;
use crate::vectors::{Row, put_row, row_bytes, step_products};

/// Rounds: further ones hardly move centroids.
const ROUNDS: usize = 8;
/// Rows a centroid is trained with at most.
const SAMPLES: usize = 128;
/// Rows whose nearest centroids one thread looks for at a time.
const TOGETHER: usize = 1024;

/// Rows of one number of dimensions, behind one another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vectors<'a> {
    pub bytes: &'a [u8],
    pub dimensions: usize,
}

impl<'a> Vectors<'a> {
    pub fn new(bytes: &'a [u8], dimensions: usize) -> Self {
        Self { bytes, dimensions }
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / row_bytes(self.dimensions)
    }

    pub fn row(&self, position: usize) -> &'a [u8] {
        let bytes = row_bytes(self.dimensions);
        &self.bytes[position * bytes..(position + 1) * bytes]
    }

    /// Some rows, behind one another.
    pub fn gather(&self, rows: &[u32]) -> Vec<u8> {
        rows.iter().flat_map(|row| self.row(*row as usize)).copied().collect()
    }

    pub fn steps(&self, position: usize) -> &'a [u8] {
        &self.row(position)[..self.dimensions]
    }

    pub fn scale(&self, position: usize) -> f32 {
        let row = self.row(position);
        let d = self.dimensions;
        f32::from_le_bytes([row[d], row[d + 1], row[d + 2], row[d + 3]])
    }

    /// Inner product of two rows.
    pub fn product(&self, position: usize, other: &Vectors<'_>, at: usize) -> f32 {
        let mut product = [0.0];
        self.write_products(position..position + 1, other, at, &mut product);
        product[0]
    }

    /// Inner products of rows behind one another with a row of others, in place of what `products` held.
    pub fn products(&self, rows: Range<usize>, others: &Vectors<'_>, at: usize, products: &mut Vec<f32>) {
        products.resize(rows.len(), 0.0);
        self.write_products(rows, others, at, products);
    }

    fn write_products(&self, rows: Range<usize>, others: &Vectors<'_>, at: usize, products: &mut [f32]) {
        let bytes = row_bytes(self.dimensions);
        step_products(others.steps(at), &self.bytes[rows.start * bytes..rows.end * bytes], products);
        let scale = others.scale(at);
        products.iter_mut().for_each(|product| *product *= scale);
    }

    /// The `count` rows nearest to a row of others, nearest first; among equals the lower.
    pub fn nearest(&self, count: usize, others: &Vectors<'_>, at: usize) -> Vec<(f32, u32)> {
        let mut products = Vec::new();
        self.products(0..self.len(), others, at, &mut products);
        crate::dense_walk::best(products.into_iter().zip(0..).collect(), count)
    }

    /// The row nearest to a row of others. `products` is room to work in.
    fn nearest_one(&self, others: &Vectors<'_>, at: usize, products: &mut Vec<f32>) -> u32 {
        self.products(0..self.len(), others, at, products);
        let better = |best: (f32, u32), new: (f32, u32)| if new.0 > best.0 { new } else { best };
        products.iter().copied().zip(0..).fold((f32::NEG_INFINITY, 0), better).1
    }
}

/// Positions of the nearest centroid of each member.
pub(crate) fn assign(vectors: &Vectors<'_>, members: &[u32], centroids: &Vectors<'_>) -> Vec<u32> {
    let nearest = |members: &[u32]| {
        let mut products = Vec::new();
        members.iter().map(|member| centroids.nearest_one(vectors, *member as usize, &mut products)).collect::<Vec<_>>()
    };
    members.par_chunks(TOGETHER).flat_map_iter(nearest).collect()
}

/// Trains `count` centroids of some members, rows of unit length; fewer when there are fewer members.
pub(crate) fn train(vectors: &Vectors<'_>, members: &[u32], count: usize, seed: u64) -> Vec<u8> {
    let count = count.min(members.len());
    let mut state = seed;
    // Every nth, so that samples come from everywhere.
    let step = members.len().div_ceil(count.max(1) * SAMPLES).max(1);
    let sample: Vec<u32> = members.iter().copied().step_by(step).collect();
    let mut centroids = Vec::new();
    for position in 0..count {
        // One from each stretch of the sample.
        let (from, to) = (
            position * sample.len() / count,
            ((position + 1) * sample.len() / count).max(position * sample.len() / count + 1),
        );
        let chosen = from + (split_mix(&mut state) % (to - from) as u64) as usize;
        centroids.extend_from_slice(vectors.row(sample[chosen.min(sample.len() - 1)] as usize));
    }
    for _ in 0..ROUNDS {
        let nearest = assign(vectors, &sample, &Vectors::new(&centroids, vectors.dimensions));
        let groups = group(&sample, &nearest, count);
        centroids.clear();
        for members in &groups {
            match members.is_empty() {
                // Nobody's centroid begins again elsewhere.
                true => centroids.extend_from_slice(
                    vectors.row(sample[(split_mix(&mut state) % sample.len() as u64) as usize] as usize),
                ),
                false => put_row(&mut centroids, &mean(vectors, members), 1.0),
            }
        }
    }
    centroids
}

/// Members by the group that each was assigned to, in their order.
pub(crate) fn group(members: &[u32], groups: &[u32], count: usize) -> Vec<Vec<u32>> {
    let mut out = vec![Vec::new(); count];
    members.iter().zip(groups).for_each(|(member, group)| out[*group as usize].push(*member));
    out
}

/// The mean of some members.
pub(crate) fn mean(vectors: &Vectors<'_>, members: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0f32; vectors.dimensions];
    for member in members {
        let scale = vectors.scale(*member as usize);
        sum.iter_mut()
            .zip(vectors.steps(*member as usize))
            .for_each(|(sum, step)| *sum += scale * f32::from(*step as i8));
    }
    let share = 1.0 / members.len().max(1) as f32;
    sum.iter_mut().for_each(|x| *x *= share);
    sum
}

/// Splits members into groups of about `target` that lie close together, none above twice that. Members that are all alike,
/// which no centroid tells apart, are cut in their order.
pub(crate) fn split(vectors: &Vectors<'_>, members: &[u32], target: usize, seed: u64) -> Vec<Vec<u32>> {
    if members.len() <= target {
        return vec![members.to_vec()];
    }
    let count = members.len().div_ceil(target);
    let centroids = train(vectors, members, count, seed);
    let centroids = Vectors::new(&centroids, vectors.dimensions);
    let groups = group(members, &assign(vectors, members, &centroids), centroids.len());
    let mut out = Vec::new();
    for part in groups.into_iter().filter(|part| !part.is_empty()) {
        if part.len() <= 2 * target {
            out.push(part);
        } else if part.len() == members.len() {
            out.extend(part.chunks(target).map(<[u32]>::to_vec));
        } else {
            out.extend(split(vectors, &part, target, seed.wrapping_add(1)));
        }
    }
    out
}

/// A row from its numbers, and the inverse, for the centroids of groups.
pub(crate) fn unit_row(numbers: &[f32]) -> (Vec<u8>, f32) {
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    let mut row = Vec::new();
    put_row(&mut row, numbers, 1.0);
    (row, length)
}

/// The numbers of a row.
pub(crate) fn numbers(row: &[u8]) -> Vec<f32> {
    Row::parse(row).map_or_else(|_| vec![0.0; row.len().saturating_sub(4)], |row| row.numbers())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::normalise;

    /// Four groups of twenty around four directions.
    fn vectors() -> Vec<u8> {
        let mut out = Vec::new();
        for n in 0..80 {
            let vector: Vec<f32> = (0..16)
                .map(|d| if d / 4 == n % 4 { 1.0 } else { 0.0 } + ((n * 7 + d * 3) as f32).sin() * 0.1)
                .collect();
            put_row(&mut out, &normalise(&vector).unwrap(), 1.0);
        }
        out
    }

    #[test]
    fn what_lies_together_comes_together() {
        let bytes = vectors();
        let vectors = Vectors::new(&bytes, 16);
        let members: Vec<u32> = (0..80).collect();
        let mut groups = split(&vectors, &members, 20, 1);
        groups.sort();
        assert!(
            groups.iter().all(|group| group.iter().all(|member| member % 4 == group[0] % 4) && group.len() <= 40),
            "{groups:?}"
        );
        assert_eq!(groups.concat().len(), 80);
    }

    #[test]
    fn members_that_are_all_alike_are_cut() {
        let bytes = vectors()[..20].repeat(100);
        let groups = split(&Vectors::new(&bytes, 16), &(0..100).collect::<Vec<_>>(), 16, 1);
        assert!(groups.iter().all(|group| group.len() <= 32) && groups.concat().len() == 100);
    }
}
