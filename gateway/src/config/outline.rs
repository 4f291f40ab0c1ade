//! Where the fields of a file stand. Made only when there is something to complain about, so that a good file costs one parse
//! and the types of a file stay free of positions.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use super::error::Problem;

/// Every value of a YAML document with its path and position, parents before their children.
pub(super) struct Outline {
    entries: Vec<Entry>,
    /// Index of each path, since a large file may have many faults.
    paths: HashMap<String, usize>,
}

/// A value of the document.
pub(super) struct Entry {
    /// Such as `services[0].ports[1].port`; empty for the whole document.
    pub path: String,
    /// Where the value starts, and for a mapping's value where its key does.
    pub line: u64,
    value: Location,
    key: Option<Location>,
    /// A scalar as it is written.
    pub text: Option<String>,
}

impl Outline {
    /// The outline of `text`.
    ///
    /// # Errors
    /// The text is not YAML.
    pub(super) fn read(text: &str) -> Result<Self, serde_saphyr::Error> {
        let mut options = super::shape::options();
        // The reader of the fields refuses a repeated one, and the outline must know where it is.
        options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
        let tree = serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options)?;
        let mut entries = Vec::new();
        flatten(text, String::new(), None, &tree, &mut entries);
        let paths = entries.iter().enumerate().map(|(index, entry)| (entry.path.clone(), index)).collect();
        Ok(Self { entries, paths })
    }

    /// The value at `path`.
    pub(super) fn at_path(&self, path: &str) -> Option<&Entry> {
        self.entries.get(*self.paths.get(path)?)
    }

    /// The innermost value that starts at `location`. A mapping in block style starts where its first key does.
    pub(super) fn value_at(&self, location: Location) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| same_place(entry.value, location))
    }

    /// The value whose key starts at `location`.
    pub(super) fn key_at(&self, location: Location) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.is_some_and(|key| same_place(key, location)))
    }

    /// The mapping that a fault of a mapping as a whole means, which the parser places at its last key, or at the mapping itself if
    /// it is empty.
    pub(super) fn mapping_at(&self, location: Location) -> Option<&Entry> {
        match self.key_at(location) {
            Some(field) => self.at_path(parent(&field.path)?),
            None => self.value_at(location),
        }
    }

    /// The line of the field at `path`, or of the nearest field that encloses it.
    fn line(&self, path: &str) -> Option<u64> {
        let mut path = path;
        loop {
            if let Some(entry) = self.at_path(path) {
                return Some(entry.line);
            }
            path = parent(path)?;
        }
    }
}

/// Fills in the lines of problems that name a field of `text`.
pub(super) fn locate(text: &str, problems: &mut [Problem]) {
    let Ok(outline) = Outline::read(text) else { return };
    for problem in problems {
        problem.line = outline.line(&problem.field);
    }
}

/// The path of what encloses the value at `path`; `None` for the whole document.
fn parent(path: &str) -> Option<&str> {
    let end = path.rfind(['.', '[']).unwrap_or(0);
    (!path.is_empty()).then(|| &path[..end])
}

fn same_place(a: Location, b: Location) -> bool {
    (a.line(), a.column()) == (b.line(), b.column())
}

fn flatten(text: &str, path: String, key: Option<Location>, node: &Spanned<Tree>, entries: &mut Vec<Entry>) {
    let value = node.referenced;
    let line = key.unwrap_or(value).line();
    let written = matches!(node.value, Tree::Scalar).then(|| written(text, node.defined)).flatten();
    entries.push(Entry { path: path.clone(), line, value, key, text: written });
    match &node.value {
        Tree::Scalar => {}
        Tree::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(text, format!("{path}[{index}]"), None, item, entries);
            }
        }
        Tree::Mapping(fields) => {
            for (name, field) in fields {
                let separator = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{separator}{}", name.value);
                flatten(text, path, Some(name.referenced), field, entries);
            }
        }
    }
}

/// The source text of a scalar, unless it is too long to repeat.
fn written(text: &str, location: Location) -> Option<String> {
    const LONGEST: usize = 80;
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    let written = text.get(start..start.checked_add(length)?)?.trim_end();
    (!written.is_empty() && written.len() <= LONGEST && !written.contains('\n')).then(|| written.to_owned())
}

/// The structure of a document without its values.
enum Tree {
    Scalar,
    Sequence(Vec<Spanned<Tree>>),
    Mapping(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_i128<E>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_u128<E>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Tree::Sequence(all))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(field) = fields.next_entry()? {
            all.push(field);
        }
        Ok(Tree::Mapping(all))
    }
}
