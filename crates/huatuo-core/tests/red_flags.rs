//! Recall and false alarms of the red-flag rules over `red_flags.jsonl`, messages in patients' own words.

use huatuo_core::safety::red_flags;
use serde_json::Value;

/// One message a line: `text`, and in `flag` the rule that must be raised or null for none at all.
const MESSAGES: &str = include_str!("red_flags.jsonl");
/// The least share of dangerous messages whose rule must be raised.
const MIN_RECALL: f64 = 0.95;
/// The largest share of harmless messages that may raise any rule.
const MAX_FALSE_ALARMS: f64 = 0.05;

/// Messages of one kind and how many of them were judged wrongly.
#[derive(Default)]
struct Tally {
    all: u32,
    wrong: u32,
}

impl Tally {
    fn add(&mut self, wrong: bool) {
        self.all += 1;
        self.wrong += u32::from(wrong);
    }

    fn wrong_share(&self) -> f64 {
        f64::from(self.wrong) / f64::from(self.all)
    }
}

#[test]
fn dangers_are_found_and_everyday_questions_left_alone() {
    let (mut dangerous, mut harmless) = (Tally::default(), Tally::default());
    for line in MESSAGES.lines() {
        let message: Value = serde_json::from_str(line).expect("each line is a JSON object");
        let text = message["text"].as_str().expect("each message has a text");
        let raised: Vec<&str> = red_flags(text, std::iter::empty()).iter().map(|flag| flag.id).collect();
        let wrong = match message["flag"].as_str() {
            Some(flag) => {
                let missed = !raised.contains(&flag);
                dangerous.add(missed);
                missed
            }
            None => {
                harmless.add(!raised.is_empty());
                !raised.is_empty()
            }
        };
        if wrong {
            println!("{text}: expected {}, raised {raised:?}", message["flag"]);
        }
    }
    let recall = 1.0 - dangerous.wrong_share();
    let false_alarms = harmless.wrong_share();
    println!("recall {recall:.3} of {}, false alarms {false_alarms:.3} of {}", dangerous.all, harmless.all);
    assert!(recall >= MIN_RECALL, "recall {recall:.3}");
    assert!(false_alarms <= MAX_FALSE_ALARMS, "false alarms {false_alarms:.3}");
}
