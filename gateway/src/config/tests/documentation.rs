//! What `docs/configuration.md` shows is so.

use super::super::{parse, schema};
use super::MINIMAL;

const PAGE: &str = include_str!("../../../../docs/configuration.md");

#[test]
fn the_smallest_file_shown_is_good() {
    let shown = PAGE.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let mut expected = parse("expected", MINIMAL).unwrap();
    expected.services[0].vips[0].gateway = Some("172.18.0.1".parse().unwrap());
    assert_eq!(parse("shown", shown).unwrap(), expected);
}

#[test]
fn the_refusal_shown_is_in_these_words() {
    let shown = PAGE.lines().find(|line| line.trim().starts_with("gateway.yaml: line ")).unwrap().trim();
    let line: usize = shown.split("line ").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
    let good = MINIMAL.replace("172.18.0.18/16\n", "172.18.0.18/16\n    gateway: 172.19.0.1\n");
    let before = good.lines().position(|line| line.contains("gateway: ")).unwrap() + 1;
    let text = good.replace("version: 1\n", &format!("version: 1\n{}", "#\n".repeat(line - before)));
    assert_eq!(parse("gateway.yaml", &text).unwrap_err().to_string(), shown);
}

/// Every field of the schema has a row, or for the fields of a VIP a word, of its own.
#[test]
fn every_field_is_described() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let objects = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    let fields =
        objects.filter_map(|object| object["properties"].as_object()).flat_map(|fields| fields.keys());
    let missing: Vec<_> = fields.filter(|field| !PAGE.contains(&format!("`{field}`"))).collect();
    assert_eq!(missing, Vec::<&String>::new());
}
