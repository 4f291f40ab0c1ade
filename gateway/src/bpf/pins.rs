//! Where programs, maps and links are pinned.
//!
//! `<bpffs>/sluice/v<schema>/<gateway>/<name>`, all objects of a gateway in one folder. A pin keeps its object alive without
//! a process, which is what lets the loader be killed and replaced. bpffs refuses names with a dot.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use sluice_gateway_ebpf::maps::SCHEMA_VERSION;

use super::error::Error;

/// Where nodes mount the BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Which gateway pins belong to: the pod's UID, so that a pod that is created anew starts afresh and a container that is
/// restarted does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayId(String);

/// Why a text is no gateway id.
#[derive(Debug, thiserror::Error)]
#[error(
    "gateway id {0:?} must be 1 to 63 letters, digits, `-` or `_` (it names a folder on bpffs): use the pod's UID"
)]
pub struct InvalidGatewayId(String);

impl FromStr for GatewayId {
    type Err = InvalidGatewayId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if (1..=63).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidGatewayId(text.to_owned()))
        }
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pin folders of one gateway.
#[derive(Clone, Debug)]
pub struct Pins {
    bpffs: PathBuf,
    gateway: GatewayId,
    schema: u32,
}

impl Pins {
    /// Folders below `bpffs` (usually [`BPFFS`]) for `gateway`, of this build's schema.
    pub fn new(bpffs: impl Into<PathBuf>, gateway: GatewayId) -> Self {
        Self { bpffs: bpffs.into(), gateway, schema: SCHEMA_VERSION }
    }

    /// The same folders as another build with `schema` would use.
    #[must_use]
    pub fn with_schema(self, schema: u32) -> Self {
        Self { schema, ..self }
    }

    /// Where the BPF file system is mounted, or a folder on it.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// The folder of every gateway of this node.
    pub fn root(&self) -> PathBuf {
        self.bpffs.join("sluice")
    }

    /// The folder that holds this gateway's pins.
    pub fn dir(&self) -> PathBuf {
        self.root().join(schema_name(self.schema)).join(&self.gateway.0)
    }

    /// The pin of a map, program or link.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// This gateway's id.
    pub fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    /// This gateway's folders of other schemas, where there are any.
    pub(super) fn other_schemas(&self) -> Result<Vec<PathBuf>, Error> {
        let mine = self.dir();
        let all = folders(&self.root())?;
        let of_gateway = all.into_iter().map(|schema| schema.join(&self.gateway.0));
        Ok(of_gateway.filter(|dir| *dir != mine && dir.is_dir()).collect())
    }

    /// The folders of other gateways, of any schema.
    pub(super) fn siblings(&self) -> Result<Vec<PathBuf>, Error> {
        let mut siblings = Vec::new();
        for schema in folders(&self.root())? {
            siblings.extend(folders(&schema)?.into_iter().filter(|dir| !dir.ends_with(&self.gateway.0)));
        }
        Ok(siblings)
    }
}

fn schema_name(schema: u32) -> String {
    format!("v{schema}")
}

/// Folders directly below `dir`; none if it does not exist.
pub(super) fn folders(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::pin("read", dir)(error)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::pin("read", dir))?;
        if entry.file_type().map_err(Error::pin("read", dir))?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_id_names_a_folder_on_bpffs() {
        for good in ["7d9c1b6e-93f4-4b0c-8d5e-2f1a0c9b8e7d", "local", "a_1"] {
            assert_eq!(good.parse::<GatewayId>().unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", "a.b", "a/b", "a b", "ä", &"x".repeat(64)] {
            bad.parse::<GatewayId>().unwrap_err();
        }
    }

    #[test]
    fn folders_carry_schema_and_gateway() {
        let pins = Pins::new("/bpf", "uid".parse().unwrap()).with_schema(7);
        assert_eq!(pins.path("flows_v4"), Path::new("/bpf/sluice/v7/uid/flows_v4"));
    }

    #[test]
    fn folders_are_told_apart_by_gateway_and_schema() {
        let bpffs = tempfile::tempdir().unwrap();
        let make = |schema: u32, id: &str| {
            let dir = Pins::new(bpffs.path(), id.parse().unwrap()).with_schema(schema).dir();
            std::fs::create_dir_all(&dir).unwrap();
            dir
        };
        let mine = Pins::new(bpffs.path(), "me".parse().unwrap()).with_schema(2);
        assert!(mine.other_schemas().unwrap().is_empty());
        assert!(mine.siblings().unwrap().is_empty());

        make(2, "me");
        let older = make(1, "me");
        let siblings = [make(1, "other"), make(2, "other")];
        assert_eq!(mine.other_schemas().unwrap(), [older]);
        assert_eq!(mine.siblings().unwrap(), siblings);
    }
}
