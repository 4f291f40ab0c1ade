//! The documents hold together: tables are whole, and links within the repository lead somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::process;

/// Every document of the root and of `docs/`, at any depth.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![process::root().join("docs")];
    let of_root = fs::read_dir(process::root()).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(of_root.filter(|path| is_page(path)));
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if is_page(&path) {
                pages.push(path);
            }
        }
    }
    pages
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "md")
}

/// The lines that are not in a block of code, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What is wrong with the tables: a row that has not as many cells as the one above it.
fn torn_rows(text: &str) -> Vec<usize> {
    let mut torn = Vec::new();
    let mut above = None;
    for (number, line) in lines(text) {
        let bars = line.matches('|').count() - line.matches(r"\|").count();
        let is_row = line.starts_with('|');
        if is_row && above.is_some_and(|above| above != bars) {
            torn.push(number + 1);
        }
        above = is_row.then_some(bars);
    }
    torn
}

/// Where the links lead that name a file of the repository.
fn links(text: &str) -> Vec<&str> {
    let targets = lines(text).flat_map(|(_, line)| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains(':')).collect()
}

#[test]
fn tables_are_whole() {
    assert_eq!(torn_rows("| a | b |\n|---|---|\n| `x\\|y` | z |\n\n| a |\n| b |"), [0; 0]);
    assert_eq!(torn_rows("| a | b |\n|---|---|\n| x |\n"), [3]);
    for page in pages() {
        let torn = torn_rows(&fs::read_to_string(&page).unwrap());
        assert!(torn.is_empty(), "{}: rows of a table in lines {torn:?}", page.display());
    }
}

#[test]
fn links_lead_to_files() {
    assert_eq!(links("[a](b.md#c) [d](#e) [f](https://g) and [h](i/)"), ["b.md", "i/"]);
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let file = page.parent().unwrap().join(link);
            assert!(file.exists(), "{} names {link}, which is not there", page.display());
        }
    }
}
