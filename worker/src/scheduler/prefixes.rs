//! Texts that were read, kept so that one which begins alike need not be read from its beginning.

use huatuo_compute::Device;
use huatuo_generate::{Decoder, KvCache};

use super::Scope;

/// Fewest tokens that are worth sharing.
const FEWEST: usize = 8;
/// Most texts that are kept; memory is bounded by the budget of all caches.
const MOST_TEXTS: usize = 256;

/// Kept texts. One client's are never shared with another: how fast an answer comes would tell what others asked.
pub struct Prefixes<D: Device> {
    texts: Vec<Text<D>>,
    /// Counts uses.
    clock: u64,
}

struct Text<D: Device> {
    scope: Scope,
    ids: Vec<u32>,
    cache: KvCache<D>,
    used: u64,
}

impl<D: Device> Prefixes<D> {
    pub fn new() -> Self {
        Self { texts: Vec::new(), clock: 0 }
    }

    /// A cache of as much of a text's beginning as is known, without its last token, whose scores are wanted.
    pub fn find(&mut self, decoder: &Decoder<D>, scope: Scope, ids: &[u32]) -> KvCache<D> {
        self.clock += 1;
        let is_open = |text: &&mut Text<D>| text.scope == scope || text.scope == Scope::EVERYBODY;
        let beginnings = self.texts.iter_mut().filter(is_open).map(|text| (shared(&text.ids, ids), text));
        let longest = beginnings.max_by_key(|(tokens, _)| *tokens);
        match longest.map(|(tokens, text)| (tokens.min(ids.len() - 1), text)) {
            Some((tokens, text)) if tokens >= FEWEST => {
                text.used = self.clock;
                decoder.fork(&text.cache, tokens)
            }
            _ => decoder.new_cache(),
        }
    }

    /// Keeps what was read of a text, in place of its own beginnings.
    pub fn keep(&mut self, scope: Scope, mut ids: Vec<u32>, cache: KvCache<D>) {
        ids.truncate(cache.len());
        if ids.len() < FEWEST || self.texts.iter().any(|text| text.scope == scope && text.ids.starts_with(&ids)) {
            return;
        }
        self.clock += 1;
        self.texts.retain(|text| text.scope != scope || !ids.starts_with(&text.ids));
        if self.texts.len() == MOST_TEXTS {
            self.drop_oldest();
        }
        self.texts.push(Text { scope, ids, cache, used: self.clock });
    }

    /// Forgets the text that was not used for longest; whether there was one.
    pub fn drop_oldest(&mut self) -> bool {
        let oldest = self.texts.iter().enumerate().min_by_key(|(_, text)| text.used).map(|(at, _)| at);
        oldest.map(|at| self.texts.swap_remove(at)).is_some()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.texts.clear();
    }
}

fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
