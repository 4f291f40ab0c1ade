//! `cargo xtask image`.

mod archive;
mod binary;
mod layer;
mod recipe;
mod sbom;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use oci_spec::image::{ANNOTATION_CREATED, ANNOTATION_REVISION};
use serde::Serialize;

use crate::{
    build_ebpf, process,
    ui::{self, Output},
};
use archive::Variant;
use binary::Arch;
pub use binary::linked;
use recipe::Image;

/// What a node keeps of one image at most.
const LIMIT: u64 = 20 << 20;
const MIB: f64 = 1_048_576.0;
/// The profile of what is released; another is for trying things quickly.
const PROFILE: &str = "image";
const FOLDER: &str = "target/images";

/// Builds the images, without Docker
///
/// Each is one statically linked program in an OCI archive, FROM nothing, with a bill of materials (CycloneDX) as a
/// referrer. docs/images.md says when an archive is the same, bit for bit, as another one of the same commit.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask image                      both, into target/images
  cargo xtask image gateway -o json      one; its file, digest and sizes for scripts
  cargo xtask image --profile dev        quickly, to try something: large and slow images
  ctr -n k8s.io images import target/images/sluice-gateway.tar
  skopeo copy --all oci-archive:target/images/sluice-gateway.tar:0.1.0 docker://REGISTRY/sluice-gateway:0.1.0

The time in an image is the commit's, or SOURCE_DATE_EPOCH (seconds since 1970).
docs/images.md says what is in them, and what a bit-for-bit rebuild takes.")]
pub struct Args {
    /// Which; default: all
    #[arg(value_enum)]
    images: Vec<Image>,
    /// Folder for the archives
    #[arg(long, default_value = FOLDER, value_name = "DIR")]
    out: PathBuf,
    /// Processors that an image is for; several make one image that each node takes its own of
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Arch::Amd64])]
    arch: Vec<Arch>,
    /// Cargo profile; any other than `image` is for trials, its size is not held to the limit
    #[arg(long, default_value = PROFILE)]
    profile: String,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

/// A written archive.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// As containerd names it after an import.
    reference: String,
    file: PathBuf,
    /// Of the image's index.
    digest: String,
    /// Bytes on the node.
    unpacked: u64,
    /// Bytes that a node pulls.
    compressed: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let images = if args.images.is_empty() { Image::ALL.to_vec() } else { args.images.clone() };
    ui::heading("Building images");
    build_ebpf::objects(false)?;
    let written = images.into_iter().map(|image| write(image, args)).collect::<Result<Vec<_>>>()?;
    match args.output {
        Output::Table => report(&written),
        Output::Json => println!("{}", serde_json::to_string(&written)?),
    }
    if args.profile == PROFILE
        && let Some(large) = written.iter().find(|written| written.unpacked > LIMIT)
    {
        bail!("{} takes {} bytes on a node, more than the limit of {LIMIT}", large.reference, large.unpacked);
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds what is released into `target/images`, and returns the archives.
///
/// # Errors
/// If the compiler refuses a program.
pub fn archives() -> Result<Vec<PathBuf>> {
    Ok(released()?.into_iter().map(|written| written.file).collect())
}

/// Builds what is released into `target/images`.
///
/// # Errors
/// If the compiler refuses a program.
pub fn released() -> Result<Vec<Written>> {
    let args = Args {
        images: Vec::new(),
        out: FOLDER.into(),
        arch: vec![Arch::Amd64],
        profile: PROFILE.to_owned(),
        output: Output::Table,
    };
    build_ebpf::objects(false)?;
    Image::ALL.into_iter().map(|image| write(image, &args)).collect()
}

fn write(image: Image, args: &Args) -> Result<Written> {
    let known = sbom::packages()?;
    let toolchain = sbom::Toolchain::ask()?;
    let mut variants = Vec::new();
    for arch in &args.arch {
        let program = binary::build(image, *arch, &args.profile)?;
        let mut linked = program.packages;
        if image == Image::Gateway {
            linked.extend(build_ebpf::packages()?);
        }
        let sbom = sbom::write(image, &linked, &known, &toolchain)?;
        stage(image, &process::root().join(&args.out).join(arch.oci().to_string()), &program.bytes)?;
        variants.push(Variant { arch: arch.oci(), program: program.bytes, sbom });
    }
    let packed = archive::pack(image, &labels(image)?, &variants)?;
    let folder = process::root().join(&args.out);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let file = folder.join(format!("{}.tar", image.name()));
    replace(&file, &packed.bytes)?;
    Ok(Written {
        reference: image.reference(),
        file,
        digest: packed.digest,
        unpacked: packed.unpacked,
        compressed: packed.compressed,
    })
}

/// Lays out the image's files for `deploy/Dockerfile`, in a folder of the processor and the image.
fn stage(image: Image, folder: &Path, program: &[u8]) -> Result<()> {
    let root = folder.join(image.name());
    let failed = || format!("laying out {}", root.display());
    if root.exists() {
        fs::remove_dir_all(&root).with_context(failed)?;
    }
    fs::create_dir_all(&root).with_context(failed)?;
    let file = root.join(image.name());
    fs::write(&file, program).with_context(failed)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).with_context(failed)?;
    for (link, to) in image.links() {
        let link = root.join(link);
        link.parent().map_or(Ok(()), fs::create_dir_all).with_context(failed)?;
        symlink(to, link).with_context(failed)?;
    }
    Ok(())
}

/// Nobody who reads the file meanwhile sees half of it.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let next = file.with_extension("tar.next");
    fs::write(&next, bytes).with_context(|| format!("writing {}", next.display()))?;
    fs::rename(&next, file).with_context(|| format!("renaming {} to {}", next.display(), file.display()))
}

fn labels(image: Image) -> Result<BTreeMap<String, String>> {
    let git = |args: &[&str]| process::ask(Command::new("git").current_dir(process::root()).args(args));
    let mut labels: BTreeMap<String, String> =
        image.labels().iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if let Some(revision) = git(&["rev-parse", "HEAD"]) {
        let changed = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
        let dirty = if changed { "-dirty" } else { "" };
        labels.insert(ANNOTATION_REVISION.to_owned(), format!("{revision}{dirty}"));
    }
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds,
        Err(_) => git(&["log", "-1", "--format=%ct"]).unwrap_or_else(|| "0".to_owned()),
    };
    let seconds = epoch.parse().with_context(|| {
        format!("SOURCE_DATE_EPOCH is `{epoch}`: it must be a number of seconds since 1970")
    })?;
    let created = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    labels.insert(ANNOTATION_CREATED.to_owned(), humantime::format_rfc3339_seconds(created).to_string());
    Ok(labels)
}

fn report(written: &[Written]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["IMAGE", "UNPACKED", "PULLED", "DIGEST", "FILE"]);
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let size = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB);
    for one in written {
        table.add_row([
            one.reference.trim_start_matches("docker.io/library/").to_owned(),
            size(one.unpacked),
            size(one.compressed),
            one.digest.chars().take("sha256:".len() + 12).collect(),
            process::shorten(&one.file),
        ]);
    }
    for column in 1..=2 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    anstream::println!("\n{table}");
}
