//! What a cleaner kept and dropped, with a few examples of each reason.

use std::collections::BTreeMap;
use std::fmt;

use crate::drop_reason::DropReason;

/// Examples of each reason.
const EXAMPLES: usize = 5;
/// Ids of kept records that are remembered at most, to name them in examples.
const REMEMBERED: usize = 1 << 15;

/// Counts and examples of a cleaning.
#[derive(Debug, Default)]
pub struct Report {
    kept: u64,
    dropped: BTreeMap<&'static str, Dropped>,
    ids: SampledIds,
}

/// Records dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// The first that can be named, at most 5.
    pub examples: Vec<DropExample>,
}

/// A dropped record.
#[derive(Clone, Debug, PartialEq)]
pub struct DropExample {
    /// Its id.
    pub id: String,
    /// The id of the record that says the same, if it was dropped for one.
    pub kept: Option<String>,
}

impl Report {
    /// Records kept.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Records dropped for each reason that occurred, by its name.
    pub fn dropped(&self) -> &BTreeMap<&'static str, Dropped> {
        &self.dropped
    }

    pub(crate) fn keep(&mut self, id: &str) {
        self.ids.add(id);
        self.kept += 1;
    }

    pub(crate) fn drop(&mut self, id: String, reason: &DropReason) {
        let of = reason.kept();
        let kept = of.and_then(|number| self.ids.get(number)).map(str::to_owned);
        let dropped = self.dropped.entry(reason.name()).or_default();
        dropped.count += 1;
        if dropped.examples.len() < EXAMPLES && (of.is_none() || kept.is_some()) {
            dropped.examples.push(DropExample { id, kept });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records kept", self.kept)?;
        for (name, Dropped { count, examples }) in &self.dropped {
            let examples: Vec<String> = (examples.iter())
                .map(|DropExample { id, kept }| match kept {
                    Some(kept) => format!("{id} of {kept}"),
                    None => id.clone(),
                })
                .collect();
            write!(f, "\n{count} dropped, {name}: {}", examples.join(", "))?;
            if *count > examples.len() as u64 {
                f.write_str(" …")?;
            }
        }
        Ok(())
    }
}

/// The ids of every record at first, then of every second, fourth and so on, spread over all that were kept.
#[derive(Debug)]
struct SampledIds {
    ids: Vec<String>,
    stride: u32,
    next: u32,
}

impl Default for SampledIds {
    fn default() -> Self {
        Self { ids: Vec::new(), stride: 1, next: 0 }
    }
}

impl SampledIds {
    fn add(&mut self, id: &str) {
        if self.next.is_multiple_of(self.stride) {
            if self.ids.len() == REMEMBERED {
                let mut at = 0..;
                self.ids.retain(|_| at.next().is_some_and(|at: usize| at.is_multiple_of(2)));
                self.stride *= 2;
            }
            // After halving, the record at hand is on the new stride too: REMEMBERED is even.
            self.ids.push(id.to_owned());
        }
        self.next = self.next.wrapping_add(1);
    }

    fn get(&self, number: u32) -> Option<&str> {
        let at = number.is_multiple_of(self.stride).then_some(number / self.stride)?;
        self.ids.get(at as usize).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_remembered_are_those_of_their_numbers() {
        let mut ids = SampledIds::default();
        let count = 5 * REMEMBERED as u32 + 3;
        (0..count).for_each(|n| ids.add(&n.to_string()));
        let known: Vec<u32> = (0..count).filter(|n| ids.get(*n).is_some()).collect();
        assert!(known.iter().all(|n| ids.get(*n) == Some(n.to_string().as_str())));
        assert!(known.len() > REMEMBERED / 2 && known.len() <= REMEMBERED, "{}", known.len());
    }

    #[test]
    fn a_report_names_a_few_of_each_reason() {
        let mut report = Report::default();
        report.keep("a");
        report.drop("b".to_owned(), &DropReason::Duplicate { of: 0 });
        (0..7).for_each(|n| report.drop(n.to_string(), &DropReason::NoAnswer));
        let text = "1 records kept\n1 dropped, duplicate: b of a\n7 dropped, no answer: 0, 1, 2, 3, 4 …";
        assert_eq!(report.to_string(), text);
    }
}
