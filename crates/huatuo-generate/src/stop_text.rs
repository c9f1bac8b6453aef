//! Ends an answer at a text: a caller's stop string, or a mark of the chat template that is no token of its own.

/// Holds back what may be the beginning of a stop text. What is shown doesn't depend on how tokens cut the text.
#[derive(Debug, Default)]
pub struct StopText {
    stops: Vec<String>,
    /// The longest end of the text that a stop text begins with.
    held: String,
    stopped: bool,
}

impl StopText {
    /// Looks for texts, none of them empty.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        Self { stops: stops.into_iter().collect(), ..Self::default() }
    }

    /// Takes the next piece of the answer; gives what may be shown now. Of stop texts that end at the same place the
    /// longest counts; nothing comes behind the first that is complete.
    pub fn push(&mut self, piece: &str) -> String {
        let mut shown = String::new();
        for c in piece.chars() {
            if self.stopped {
                break;
            }
            self.held.push(c);
            let complete = self.stops.iter().filter(|stop| self.held.ends_with(*stop)).map(String::len).max();
            self.stopped = complete.is_some();
            let kept = complete.unwrap_or_else(|| self.begun());
            shown.extend(self.held.drain(..self.held.len() - kept));
        }
        if self.stopped {
            self.held.clear();
        }
        shown
    }

    /// What was held back, at the end of an answer that no stop text ended.
    pub fn finish(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.held)).filter(|held| !held.is_empty())
    }

    /// Whether a stop text was found.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Bytes at the end of `held` that some stop text begins with.
    fn begun(&self) -> usize {
        let is_begun = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let at = self.held.char_indices().map(|(at, _)| at).find(is_begun);
        self.held.len() - at.unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(stops: &[&str], pieces: &[&str]) -> Vec<String> {
        let mut stop_text = StopText::new(stops.iter().map(|stop| (*stop).to_owned()));
        let mut shown: Vec<String> = pieces.iter().map(|piece| stop_text.push(piece)).collect();
        shown.extend(stop_text.finish());
        shown
    }

    #[test]
    fn without_a_stop_text_everything_is_shown_at_once() {
        assert_eq!(shown(&[], &["<", "问", ">"]), ["<", "问", ">"]);
    }

    #[test]
    fn a_stop_text_is_found_across_pieces_and_never_shown() {
        assert_eq!(shown(&["<问>"], &["多喝水。", "<", "问", ">：头", "痛"]), ["多喝水。", "", "", "", ""]);
        assert_eq!(shown(&["<问>"], &["多喝水。<问>：头痛"]), ["多喝水。"]);
    }

    #[test]
    fn what_turns_out_to_be_no_stop_text_is_shown() {
        assert_eq!(shown(&["<问>"], &["体温<", "问", "题"]), ["体温", "", "<问题"]);
        assert_eq!(shown(&["<问>"], &["<<", "问>"]), ["<", ""]);
    }

    #[test]
    fn what_is_held_back_at_the_end_is_shown() {
        assert_eq!(shown(&["<问>"], &["体温<问"]), ["体温", "<问"]);
    }

    #[test]
    fn the_stop_text_that_is_complete_first_counts() {
        assert_eq!(shown(&["甲乙丙丁", "乙"], &["甲乙丙丁"]), ["甲"]);
        assert_eq!(shown(&["甲乙", "乙"], &["丁甲乙"]), ["丁"]);
    }

    /// The text before the stop text that ends first, by trying every end.
    fn cut<'a>(text: &'a str, stops: &[String]) -> &'a str {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        let mut stopped = ends.filter_map(|end| {
            let before = &text[..end];
            stops.iter().filter(|stop| before.ends_with(*stop)).map(|stop| end - stop.len()).min()
        });
        stopped.next().map_or(text, |at| &text[..at])
    }

    proptest! {
        #[test]
        fn however_the_text_is_cut_the_same_is_shown(
            text in "[甲b😷]{0,30}", stops in proptest::collection::vec("[甲b😷]{1,5}", 0..4), cuts in any::<u64>(),
        ) {
            let mut pieces = vec![String::new()];
            for (i, c) in text.chars().enumerate() {
                if cuts >> i & 1 == 1 {
                    pieces.push(String::new());
                }
                pieces.last_mut().unwrap().push(c);
            }
            let mut stop_text = StopText::new(stops.clone());
            let mut shown = String::new();
            for piece in &pieces {
                shown += &stop_text.push(piece);
                prop_assert!(cut(&text, &stops).starts_with(&shown), "{shown} can't be taken back");
            }
            prop_assert_eq!(stop_text.is_stopped(), stops.iter().any(|stop| text.contains(stop)));
            shown += &stop_text.finish().unwrap_or_default();
            prop_assert_eq!(shown, cut(&text, &stops));
        }
    }
}
