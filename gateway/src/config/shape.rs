//! From text to [`File`], with faults of shape in the words of the file's author: field path, value, fix.

use serde_saphyr::{Error, Options, UserMessageFormatter};

use super::error::Problem;
use super::file::File;
use super::outline::Outline;

/// How gateway files are parsed. Aliases are bounded, since a small file can stand for a huge one.
pub(super) fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    }
}

/// Reads `text` as a version 1 file.
///
/// # Errors
/// The first fault: of YAML, of the version, else of the fields and their types.
pub(super) fn parse(text: &str) -> Result<File, Problem> {
    let fault = match serde_saphyr::from_str_with_options::<File>(text, options()) {
        Ok(file) if file.version == File::VERSION => return Ok(file),
        Ok(_) => None,
        Err(fault) => Some(fault),
    };
    // A file that is not YAML may also fail on a field before the broken line: the broken line is the better message.
    let outline = Outline::read(text).map_err(|fault| not_yaml(&fault))?;
    // A file of another version may have any other field: the version comes first.
    if let Some(problem) = other_version(&outline) {
        return Err(problem);
    }
    Err(fault.map_or_else(|| not_a_version(None), |fault| describe(&fault, &outline)))
}

fn not_yaml(fault: &Error) -> Problem {
    Problem {
        line: line(fault),
        field: String::new(),
        fault: message(fault),
        fix: "correct the YAML at or just before this line".to_owned(),
    }
}

fn other_version(outline: &Outline) -> Option<Problem> {
    match outline.at_path("version") {
        Some(entry) if entry.text.as_deref() == Some("1") => None,
        Some(entry) => Some(Problem { line: Some(entry.line), ..not_a_version(entry.text.as_deref()) }),
        None => Some(not_a_version(None)),
    }
}

fn not_a_version(found: Option<&str>) -> Problem {
    let version = File::VERSION;
    Problem {
        line: Some(1),
        field: "version".to_owned(),
        fault: match found {
            Some(found) => format!("{found} is not a version that this release reads"),
            None => "the file does not say its version".to_owned(),
        },
        fix: format!("write `version: {version}`"),
    }
}

/// A fault of serde's with the path of the field, the value and a fix.
fn describe(fault: &Error, outline: &Outline) -> Problem {
    let location = fault.location().unwrap_or(serde_saphyr::Location::UNKNOWN);
    let value = outline.value_at(location);
    let field = value.map(|entry| entry.path.clone()).unwrap_or_default();
    let text = value.and_then(|entry| entry.text.as_deref()).unwrap_or("nothing");
    let problem =
        |field: String, fault: String, fix: String| Problem { line: line_of(location), field, fault, fix };
    match fault.without_snippet() {
        Error::SerdeUnknownField { field: name, expected, .. } => {
            let path = outline.key_at(location).map_or_else(|| name.clone(), |entry| entry.path.clone());
            problem(path, "no such field".to_owned(), suggest(name, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            problem(field, format!("`{variant}` is not a value of this field"), suggest(variant, expected))
        }
        Error::SerdeMissingField { field: name, .. } => {
            let parent = outline.mapping_at(location);
            let path = parent.map(|entry| entry.path.as_str()).unwrap_or_default();
            let separator = if path.is_empty() { "" } else { "." };
            Problem {
                line: parent.map(|entry| entry.line),
                ..problem(
                    format!("{path}{separator}{name}"),
                    "missing".to_owned(),
                    "add this field".to_owned(),
                )
            }
        }
        Error::InvalidScalar { ty, .. } => {
            let highest = if *ty == "u16" { u64::from(u16::MAX) } else { u64::from(u32::MAX) };
            problem(
                field,
                format!("{text} is not a number"),
                format!("write a whole number from 0 to {highest}"),
            )
        }
        Error::DuplicateMappingKey { .. } => {
            let path = outline.key_at(location).map_or(field, |entry| entry.path.clone());
            problem(path, message(fault), "keep one of them".to_owned())
        }
        Error::Unexpected { expected, .. } if expected.starts_with("sequence") => {
            problem(field, format!("{text} is not a list"), "write a list, `[]` for none".to_owned())
        }
        Error::Unexpected { expected, .. } if expected.starts_with("mapping") => problem(
            field,
            format!("{text} is not a set of fields"),
            "write its fields as `name: value`".to_owned(),
        ),
        Error::NullIntoString { .. } => {
            problem(field, "has no value".to_owned(), "give it one, or remove the field".to_owned())
        }
        _ => problem(field, message(fault), "see docs/configuration.md for this field".to_owned()),
    }
}

/// The parser's own words without the position, which a [`Problem`] has of its own.
fn message(fault: &Error) -> String {
    let message = fault.render_with_formatter(&UserMessageFormatter);
    message.split(" at line ").next().unwrap_or(&message).to_owned()
}

fn line(fault: &Error) -> Option<u64> {
    fault.location().and_then(line_of)
}

fn line_of(location: serde_saphyr::Location) -> Option<u64> {
    Some(location.line()).filter(|line| *line > 0)
}

/// The nearest of `known` if one is near, else all of them.
fn suggest(name: &str, known: &[&'static str]) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
    let nearest = known.iter().map(|known| (distance(known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 1.max(nearest.len() / 3) => {
            format!("did you mean `{nearest}`?")
        }
        _ => format!("use one of {}", known.join(", ")),
    }
}
