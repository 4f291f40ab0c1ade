//! Why a gateway file was refused.

use std::fmt;

/// Why a gateway file was refused. `Display` prints one line per problem.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than [`super::limits::MAX_FILE_BYTES`].
    #[error(
        "{file}: larger than {} bytes: split the services over several gateways",
        super::limits::MAX_FILE_BYTES
    )]
    TooLarge {
        /// The file.
        file: String,
    },
    /// The file's text is refused.
    #[error("{}", Listing { file, problems })]
    Invalid {
        /// The file.
        file: String,
        /// At least one problem, in the order of the file's fields.
        problems: Vec<Problem>,
    },
}

impl Error {
    pub(super) fn invalid(file: &str, problems: Vec<Problem>) -> Self {
        Self::Invalid { file: file.to_owned(), problems }
    }

    /// What is wrong with the text; empty if the text was never looked at.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } | Self::TooLarge { .. } => &[],
            Self::Invalid { problems, .. } => problems,
        }
    }
}

/// One thing that is wrong with a gateway file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1, where it is known.
    pub line: Option<u64>,
    /// Path of the field, such as `services[0].ports[1].port`; empty: the file as a whole.
    pub field: String,
    /// What is wrong, with the value.
    pub fault: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}: {}", self.fault, self.fix)
    }
}

/// Prints `file:line: field: fault: fix`, a line for each problem up to a bound that a terminal and a log line can take.
struct Listing<'a> {
    file: &'a str,
    problems: &'a [Problem],
}

impl Listing<'_> {
    const MOST: usize = 20;
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(Self::MOST).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}: {problem}", self.file)?;
        }
        if let Some(more @ 1..) = self.problems.len().checked_sub(Self::MOST) {
            write!(f, "\n{}: and {more} more", self.file)?;
        }
        Ok(())
    }
}
