//! The walk to a question's nearest records: nodes of the root, lists, cells of what the codes leave open, and neighbours of the best.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::cell::Cell;
use crate::error::Malformed;
use crate::fetching::between;
use crate::rabitq::{Estimate, QueryTable};
use crate::segment::{Place, Segment};
use crate::walk::Walk;
use crate::{Effort, IndexError, Kind};

/// Cells looked at for lying between two that are read: more don't come with them, however short they are.
const MOST_BETWEEN: u32 = 256;

/// The walk over one segment.
pub(crate) struct DenseWalk<'a> {
    segment: &'a Segment,
    query: Vec<f32>,
    table: QueryTable,
    effort: Effort,
    /// How many records are asked for.
    wanted: usize,
    step: Step,
    asked: Vec<Place>,
    /// The question's inner product with the mean of all vectors, and its distance from it.
    at_mean: (f32, f32),
    estimates: HashMap<u32, Estimate>,
    read: HashSet<u32>,
    /// Cosine and row of what was read, best first.
    found: Vec<(f32, u32)>,
    neighbours: HashMap<u32, Vec<u32>>,
    pub lists_read: u64,
}

/// What the last trip brought, or the next one is to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nodes,
    Lists,
    Cells,
    Neighbours(usize),
    End,
}

impl<'a> DenseWalk<'a> {
    /// Begins a walk to the `wanted` records nearest to a vector of unit length.
    pub fn new(segment: &'a Segment, query: Vec<f32>, effort: Effort, wanted: usize) -> Result<Self, IndexError> {
        let table = QueryTable::new(&segment.rotation, &query);
        let product = query.iter().zip(&segment.root.mean).map(|(x, m)| x * m).sum::<f32>();
        let square: f32 = query.iter().zip(&segment.root.mean).map(|(x, m)| (x - m) * (x - m)).sum();
        let mut walk = Self {
            segment,
            query,
            table,
            effort,
            wanted,
            step: Step::Nodes,
            asked: Vec::new(),
            at_mean: (product, square.sqrt()),
            estimates: HashMap::new(),
            read: HashSet::new(),
            found: Vec::new(),
            neighbours: HashMap::new(),
            lists_read: 0,
        };
        walk.asked = walk.nearest_nodes().map_err(|rule| IndexError::Manifest { detail: rule.0.to_owned() })?;
        Ok(walk)
    }

    fn nearest_nodes(&self) -> Result<Vec<Place>, Malformed> {
        let codes = self.segment.root.codes.chunks_exact(self.segment.rotation.code_bytes());
        let scored: Result<Vec<(f32, u32)>, Malformed> =
            codes.zip(0..).map(|(code, number)| Ok((self.of_code(code)?, number))).collect();
        let nearest = best(scored?, self.effort.nodes).into_iter().map(|(_, number)| self.segment.node(number));
        let mut asked: Vec<Place> = nearest.collect();
        let all = (0..self.segment.root.nodes.len() as u32).map(|number| self.segment.node(number));
        asked.extend(between(&asked, all));
        Ok(asked)
    }

    fn of_code(&self, code: &[u8]) -> Result<f32, Malformed> {
        Ok(self.table.estimate(code, self.at_mean.0, self.at_mean.1)?.cosine)
    }

    /// Rows of its segment, among all of the index.
    pub fn rows(&self) -> std::ops::Range<u32> {
        self.segment.first_row..self.segment.first_row + self.segment.root.records
    }

    /// Whether the cells of its candidates are here: what is best now is seldom replaced.
    pub fn has_candidates(&self) -> bool {
        matches!(self.step, Step::Neighbours(_) | Step::End)
    }

    /// Cosines of all rows that were read, best first.
    pub fn found(&self) -> &[(f32, u32)] {
        &self.found
    }

    fn take_nodes(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        let mut lists = Vec::new();
        for (place, payload) in self.asked.iter().zip(payloads) {
            let wrong = |rule| self.segment.at(place).corrupt(rule);
            let node = self.segment.parse_node(payload, place.number).map_err(wrong)?;
            for (code, offset, length) in node.lists {
                let list = self.segment.told(Kind::LISTS, node.pack, offset, length).map_err(wrong)?;
                lists.push((self.of_code(code).map_err(wrong)?, list));
            }
        }
        lists.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1.pack, a.1.offset).cmp(&(b.1.pack, b.1.offset))));
        self.asked.clear();
        let mut left = self.effort.list_bytes;
        for (_, list) in &lists {
            // The first list is read whatever it costs: without it there is no answer.
            let rest = left.checked_sub(list.length as usize).or(self.asked.is_empty().then_some(0));
            let Some(rest) = rest else { break };
            left = rest;
            self.asked.push(*list);
        }
        self.asked.extend(between(&self.asked, lists.into_iter().map(|(_, list)| list)));
        self.lists_read = self.asked.len() as u64;
        self.step = Step::Lists;
        Ok(())
    }

    fn take_lists(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        let mut entries = Vec::new();
        for (place, payload) in self.asked.iter().zip(payloads) {
            let wrong = |rule| self.segment.at(place).corrupt(rule);
            self.segment
                .parse_list(payload)
                .and_then(|list| list.scan(&self.query, &self.table, &mut entries))
                .map_err(wrong)?;
        }
        for (row, estimate) in entries {
            // A row stands in several lists; the tightest of its codes says most.
            let known = self.estimates.entry(row).or_insert(estimate);
            if estimate.bound < known.bound {
                *known = estimate;
            }
        }
        self.estimates.retain(|row, _| !self.segment.deleted.contains(row));
        let mut at_least: Vec<f32> = self.estimates.values().map(|estimate| estimate.cosine - estimate.bound).collect();
        at_least.sort_by(|a, b| b.total_cmp(a));
        let sure = at_least.get(self.wanted.saturating_sub(1)).copied().unwrap_or(f32::NEG_INFINITY);
        let open = self.estimates.iter().filter(|(_, estimate)| estimate.cosine + estimate.bound >= sure);
        let candidates = open.map(|(row, estimate)| (estimate.cosine, *row)).collect();
        let rows = best(candidates, self.effort.rerank.max(self.wanted));
        self.asked = rows.into_iter().map(|(_, row)| self.segment.cell(row)).collect();
        self.step = Step::Cells;
        Ok(())
    }

    fn take_cells(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        for (place, payload) in self.asked.iter().zip(payloads) {
            let cell =
                Cell::parse(payload, self.segment.dimensions).map_err(|rule| self.segment.at(place).corrupt(rule))?;
            self.read.insert(place.number);
            self.found.push((cell.vector.product(&self.query).clamp(-1.0, 1.0), place.number));
            self.neighbours.insert(place.number, cell.neighbours().collect());
        }
        self.found.sort_by(by_score);
        let round = match self.step {
            Step::Neighbours(round) => round + 1,
            _ => 0,
        };
        self.asked = if round < self.effort.rounds { self.open_neighbours()? } else { Vec::new() };
        self.step = if self.asked.is_empty() { Step::End } else { Step::Neighbours(round) };
        Ok(())
    }

    /// Cells that lie between those asked for and come with them, so that their vectors cost nothing.
    fn cells_between(&self) -> Vec<Place> {
        let mut rows: Vec<u32> = self.asked.iter().map(|place| place.number).collect();
        rows.sort_unstable();
        let near = |pair: &[u32]| pair[0] + 1..pair[1].min(pair[0].saturating_add(MOST_BETWEEN));
        let between_rows = rows.windows(2).flat_map(near);
        let unread = between_rows.filter(|row| !self.read.contains(row) && !self.segment.deleted.contains(row));
        between(&self.asked, unread.map(|row| self.segment.cell(row)))
    }

    /// Cells of neighbours of the best that were not read and may be among the best themselves.
    fn open_neighbours(&self) -> Result<Vec<Place>, IndexError> {
        let least = self
            .found
            .get(self.wanted.min(self.effort.expand).saturating_sub(1))
            .map_or(f32::NEG_INFINITY, |found| found.0);
        let (mut rows, mut seen) = (Vec::new(), HashSet::new());
        for (_, of) in self.found.iter().take(self.effort.expand) {
            for &row in self.neighbours.get(of).into_iter().flatten() {
                if row >= self.segment.entry.records {
                    return Err(self
                        .segment
                        .at(&self.segment.cell(*of))
                        .corrupt(Malformed("a neighbour's row does not exist")));
                }
                let hopeless =
                    self.estimates.get(&row).is_some_and(|estimate| estimate.cosine + estimate.bound < least);
                if !hopeless && !self.read.contains(&row) && !self.segment.deleted.contains(&row) && seen.insert(row) {
                    rows.push(row);
                }
            }
        }
        rows.truncate(self.effort.neighbours);
        Ok(rows.into_iter().map(|row| self.segment.cell(row)).collect())
    }
}

impl Walk for DenseWalk<'_> {
    fn wants(&mut self) -> Vec<Place> {
        if self.asked.is_empty() {
            self.step = Step::End;
        }
        if matches!(self.step, Step::Cells | Step::Neighbours(_)) {
            self.asked.extend(self.cells_between());
        }
        self.asked.clone()
    }

    fn take(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        match self.step {
            Step::Nodes => self.take_nodes(payloads),
            Step::Lists => self.take_lists(payloads),
            Step::Cells | Step::Neighbours(_) => self.take_cells(payloads),
            Step::End => Ok(()),
        }
    }
}

fn by_score(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The best `limit`, best first; among equals the lower numbers.
pub(crate) fn best(mut scored: Vec<(f32, u32)>, limit: usize) -> Vec<(f32, u32)> {
    if scored.len() > limit {
        scored.select_nth_unstable_by(limit, by_score);
        scored.truncate(limit);
    }
    scored.sort_by(by_score);
    scored
}
