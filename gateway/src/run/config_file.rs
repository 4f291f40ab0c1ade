//! Which configuration is in force: the file's while it is good, else the last good one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::Config;
use crate::status::{self, Origin, Refusal};

/// What a reading of the file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// There is a new configuration to bring into force.
    New,
    /// The file is good again, and says what is in force anyway.
    Recovered,
    /// The file is bad, in a way not seen at the last reading. What was in force stays so.
    Refused,
}

/// The file's history, as far as it matters.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    in_force: Option<Arc<Config>>,
    origin: Origin,
    generation: u64,
    applied_at: Option<SystemTime>,
    rejections: u64,
    refusal: Option<Refusal>,
}

impl ConfigFile {
    /// Nothing is known yet of the file at `path`.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            in_force: None,
            origin: Origin::None,
            generation: 0,
            applied_at: None,
            rejections: 0,
            refusal: None,
        }
    }

    /// Takes note of a reading of the file: a configuration, or every fault of it as text.
    pub fn read(&mut self, reading: Result<Config, String>, now: SystemTime) -> Change {
        match reading {
            Ok(config) => {
                let recovered = self.refusal.take().is_some() || self.origin == Origin::LastGoodCopy;
                self.origin = Origin::File;
                if self.in_force.as_deref() != Some(&config) {
                    self.put_in_force(config);
                    Change::New
                } else if recovered {
                    Change::Recovered
                } else {
                    Change::None
                }
            }
            Err(error) if self.refusal.as_ref().is_some_and(|last| last.error == error) => Change::None,
            Err(error) => {
                self.rejections += 1;
                self.refusal = Some(Refusal { at: now, error });
                Change::Refused
            }
        }
    }

    /// Brings the copy of the last good file into force, if nothing is in force yet.
    pub fn fall_back(&mut self, copy: Config) {
        if self.in_force.is_none() {
            self.origin = Origin::LastGoodCopy;
            self.put_in_force(copy);
        }
    }

    fn put_in_force(&mut self, config: Config) {
        self.in_force = Some(Arc::new(config));
        self.generation += 1;
        self.applied_at = None;
    }

    /// What is in force arrived in kernel and network. True the first time.
    pub fn applied(&mut self, now: SystemTime) -> bool {
        let first = self.applied_at.is_none();
        self.applied_at.get_or_insert(now);
        first
    }

    /// The configuration in force.
    pub fn in_force(&self) -> Option<&Arc<Config>> {
        self.in_force.as_ref()
    }

    /// Counts what was brought into force; 0: nothing yet.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The last refusal, while the file is bad.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// For people and metrics.
    pub fn status(&self) -> status::ConfigFile {
        status::ConfigFile {
            path: self.path.clone(),
            generation: self.generation,
            origin: self.origin,
            applied_at: self.applied_at,
            last_reload_successful: self.refusal.is_none() && self.origin == Origin::File,
            rejections: self.rejections,
            refusal: self.refusal.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(table: u32) -> Config {
        Config { gateway: crate::config::Gateway { table, ..Default::default() }, services: vec![] }
    }

    fn bad(text: &str) -> Result<Config, String> {
        Err(text.to_owned())
    }

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn the_last_good_file_stays_in_force_until_the_next_good_one() {
        let mut file = ConfigFile::new(Path::new("gateway.yaml"));
        assert_eq!(file.read(Ok(config(100)), NOW), Change::New);
        assert!(file.applied(NOW));
        assert!(!file.applied(NOW));
        assert_eq!(file.read(Ok(config(100)), NOW), Change::None);

        assert_eq!(file.read(bad("a"), NOW), Change::Refused);
        assert_eq!(file.read(bad("a"), NOW), Change::None, "the same fault is told once");
        assert_eq!(file.read(bad("b"), NOW), Change::Refused);
        let status = file.status();
        assert!(!status.last_reload_successful);
        assert_eq!((status.generation, status.rejections), (1, 2));
        assert_eq!(status.applied_at, Some(NOW), "what is in force was applied");
        assert_eq!(file.in_force().unwrap().gateway.table, 100);

        assert_eq!(file.read(Ok(config(100)), NOW), Change::Recovered);
        assert!(file.status().last_reload_successful && file.status().refusal.is_none());
        assert_eq!(file.read(Ok(config(101)), NOW), Change::New);
        assert_eq!(file.status().applied_at, None, "the new one is not applied yet");
    }

    #[test]
    fn the_copy_serves_only_while_nothing_else_does() {
        let mut file = ConfigFile::new(Path::new("gateway.yaml"));
        assert_eq!(file.read(bad("a"), NOW), Change::Refused);
        file.fall_back(config(100));
        assert_eq!(file.status().origin, Origin::LastGoodCopy);
        assert!(!file.status().last_reload_successful);

        assert_eq!(file.read(Ok(config(100)), NOW), Change::Recovered, "nothing to apply again");
        assert_eq!(file.status().origin, Origin::File);
        file.fall_back(config(7));
        assert_eq!(file.in_force().unwrap().gateway.table, 100);
    }
}
