//! The worked example of `SPEC.md` is what the writer writes.

use super::sample::{Files, options, read_folder};
use crate::{IndexWriter, MANIFEST_NAME, Manifest, Record};

/// One record, as the specification describes it.
fn example() -> Files {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = IndexWriter::open(options(2), folder.path()).unwrap();
    let record = Record { id: "1".into(), question: "头痛".into(), answer: "多休息".into(), ..Record::default() };
    writer.add(&record, &record.question, &[3.0, -4.0]).unwrap();
    writer.finish().unwrap();
    read_folder(folder.path())
}

/// The lines between a fence with this name and the end of it, comments behind `#` left out.
fn fenced(name: &str) -> String {
    let specification = include_str!("../../SPEC.md");
    let after = specification.split(&format!("```{name}\n")).nth(1).expect("the specification has the example");
    let lines = after.split("```").next().unwrap_or_default().lines();
    lines.map(|line| line.split('#').next().unwrap_or_default().trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_worked_example_is_the_packs_that_are_written() {
    let files = example();
    let manifest = Manifest::parse(&files[MANIFEST_NAME]).unwrap();
    let written = manifest.packs().flat_map(|pack| &files[&pack.name]).map(|byte| format!("{byte:02x}"));
    let written: String = written.collect();
    let specified: String = fenced("hex").split_whitespace().collect();
    assert_eq!(written, specified, "copy the left side into SPEC.md if the format was meant to change");
}

#[test]
fn the_example_manifest_is_the_one_that_is_written() {
    let written = String::from_utf8(example()[MANIFEST_NAME].clone()).unwrap();
    assert_eq!(written, fenced("json"), "copy the left side into SPEC.md if the format was meant to change");
}
