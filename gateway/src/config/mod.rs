//! The gateway file: reading, checking, and the model that the rest works on.
//!
//! ```text
//! text -> file::File (shape: serde) -> Config (meaning: check)      errors carry file, line, field, fault and fix
//! Config -> file::File -> text                                      what the controller and `check` print
//! ```

mod address;
mod check;
mod duration;
mod error;
pub mod file;
pub mod limits;
mod model;
mod outline;
mod shape;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::Path;

pub use error::{Error, Problem};
pub use model::{Attach, Config, Gateway, Port, Protocol, Service, Timeouts, Vip};

/// Reads and checks the gateway file at `path`.
///
/// # Errors
/// The file cannot be read, is larger than [`limits::MAX_FILE_BYTES`], or is refused by [`parse`].
pub fn read(path: &Path) -> Result<Config, Error> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limits::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::Read { file: name.clone(), source })?;
    let text = std::str::from_utf8(&bytes).map_err(|fault| {
        let line = 1 + bytes.iter().take(fault.valid_up_to()).filter(|byte| **byte == b'\n').count();
        Error::invalid(
            &name,
            vec![Problem {
                line: u64::try_from(line).ok(),
                field: String::new(),
                fault: "the file is not UTF-8 text".to_owned(),
                fix: "save it as UTF-8".to_owned(),
            }],
        )
    });
    if bytes.len() > limits::MAX_FILE_BYTES {
        return Err(Error::TooLarge { file: name });
    }
    parse(&name, text?)
}

/// Checks a gateway file's `text`; `name` is what errors call the file.
///
/// # Errors
/// The text is not YAML, does not have the shape of [`file::File`], or breaks a rule of `docs/configuration.md`. Faults of
/// meaning are reported all at once; of shape, the first.
pub fn parse(name: &str, text: &str) -> Result<Config, Error> {
    if text.len() > limits::MAX_FILE_BYTES {
        return Err(Error::TooLarge { file: name.to_owned() });
    }
    let file = shape::parse(text).map_err(|problem| Error::invalid(name, vec![problem]))?;
    check::check(&file).map_err(|mut problems| {
        outline::locate(text, &mut problems);
        Error::invalid(name, problems)
    })
}

/// The JSON schema of the gateway file, as committed in `docs/gateway.schema.json`; ends with a newline.
pub fn schema() -> String {
    let schema = schemars::schema_for!(file::File);
    // A schema is plain maps and strings, for which the serializer has no way to fail.
    format!("{:#}\n", schema.as_value())
}
