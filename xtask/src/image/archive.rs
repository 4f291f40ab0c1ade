//! An OCI image layout in a tar archive, as `ctr images import`, `skopeo` and `oras` read it.
//!
//! `index.json` names an index with an image for each platform, and one artifact for each of them, by `subject`: its bill
//! of materials. Registries list such artifacts as referrers of the image; who does not know them passes them over.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use oci_spec::image::{
    ANNOTATION_REF_NAME, Arch, Config, ConfigBuilder, Descriptor, DescriptorBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os,
    Platform, PlatformBuilder, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    layer::{self, Entry, Layer},
    recipe::{Image, PATH},
    sbom,
};

/// By which containerd names what it imports.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// What a configuration blob is that says nothing: `{}`.
const EMPTY: &[u8] = b"{}";

/// An image for one platform, before it is packed.
pub struct Variant {
    /// The processor it is for.
    pub arch: Arch,
    /// The statically linked program.
    pub program: Vec<u8>,
    /// Its bill of materials.
    pub sbom: Vec<u8>,
}

/// A packed image.
pub struct Packed {
    /// The archive.
    pub bytes: Vec<u8>,
    /// Digest by which a registry would know the image.
    pub digest: String,
    /// Bytes on the node, of the largest variant.
    pub unpacked: u64,
    /// Bytes that a node pulls, of the largest variant.
    pub compressed: u64,
}

/// SHA-256 as the formats here want it.
///
/// # Errors
/// Never with digests of SHA-256; the library checks.
pub fn digest(bytes: &[u8]) -> Result<Sha256Digest> {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.parse().context("a digest")
}

/// Packs an image with all its variants.
///
/// # Errors
/// What the format cannot express.
pub fn pack(image: Image, labels: &BTreeMap<String, String>, variants: &[Variant]) -> Result<Packed> {
    let mut blobs = Blobs::default();
    let empty = blobs.add(MediaType::EmptyJSON, EMPTY.to_vec())?;
    let (mut manifests, mut artifacts) = (Vec::new(), Vec::new());
    let (mut unpacked, mut compressed) = (0, 0);
    for variant in variants {
        let layer = layer::pack(&entries(image, variant))?;
        unpacked = unpacked.max(layer.unpacked);
        compressed = compressed.max(layer.bytes.len() as u64);
        let manifest = manifest(&mut blobs, image, labels, variant, layer)?;
        artifacts.push(artifact(&mut blobs, &empty, &manifest, &variant.sbom)?);
        manifests.push(manifest);
    }
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .annotations(annotations(labels))
        .build()?;
    let mut index = blobs.add(MediaType::ImageIndex, json(&index)?)?;
    let digest = index.digest().to_string();
    index.set_annotations(Some(HashMap::from([
        (CONTAINERD_NAME.to_owned(), image.reference()),
        // By which others choose it among what the archive holds.
        (ANNOTATION_REF_NAME.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ])));
    let root = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([vec![index], artifacts].concat())
        .build()?;
    Ok(Packed { bytes: blobs.archive(&json(&root)?)?, digest, unpacked, compressed })
}

fn entries<'a>(image: Image, variant: &'a Variant) -> Vec<(&'static str, Entry<'a>)> {
    let links = image.links().iter().map(|(path, to)| (*path, Entry::Link(to)));
    std::iter::once((image.name(), Entry::Program(&variant.program))).chain(links).collect()
}

fn manifest(
    blobs: &mut Blobs,
    image: Image,
    labels: &BTreeMap<String, String>,
    variant: &Variant,
    layer: Layer,
) -> Result<Descriptor> {
    let configuration = ImageConfigurationBuilder::default()
        .architecture(variant.arch.clone())
        .os(Os::Linux)
        .config(config(image, labels)?)
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids([format!("sha256:{}", layer.diff_id.digest())])
                .build()?,
        );
    // The tools show it as the image's age.
    let configuration = match labels.get(oci_spec::image::ANNOTATION_CREATED) {
        Some(created) => configuration.created(created),
        None => configuration,
    };
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(blobs.add(MediaType::ImageConfig, json(&configuration.build()?)?)?)
        .layers([blobs.add(MediaType::ImageLayerGzip, layer.bytes)?])
        .annotations(annotations(labels))
        .build()?;
    let mut descriptor = blobs.add(MediaType::ImageManifest, json(&manifest)?)?;
    descriptor.set_platform(Some(platform(&variant.arch)?));
    Ok(descriptor)
}

fn config(image: Image, labels: &BTreeMap<String, String>) -> Result<Config> {
    Ok(ConfigBuilder::default()
        .user(image.user())
        .env([format!("PATH={PATH}")])
        .entrypoint([image.entrypoint()])
        .cmd(image.arguments().iter().map(ToString::to_string).collect::<Vec<_>>())
        .working_dir("/")
        .labels(annotations(labels))
        .build()?)
}

/// The bill of materials of the image behind `subject`.
fn artifact(blobs: &mut Blobs, empty: &Descriptor, subject: &Descriptor, sbom: &[u8]) -> Result<Descriptor> {
    let kind = MediaType::from(sbom::MEDIA_TYPE);
    let mut subject = subject.clone();
    subject.set_platform(None);
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .artifact_type(kind.clone())
        .config(empty.clone())
        .layers([blobs.add(kind.clone(), sbom.to_vec())?])
        .subject(subject)
        .build()?;
    let mut descriptor = blobs.add(MediaType::ImageManifest, json(&manifest)?)?;
    descriptor.set_artifact_type(Some(kind));
    Ok(descriptor)
}

fn platform(arch: &Arch) -> Result<Platform> {
    Ok(PlatformBuilder::default().architecture(arch.clone()).os(Os::Linux).build()?)
}

fn annotations(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The library keeps annotations in hash maps, whose order changes from run to run; a JSON value sorts them.
fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&serde_json::to_value(value)?)?)
}

/// Everything that is named by its digest, in that order.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    fn add(&mut self, kind: MediaType, bytes: Vec<u8>) -> Result<Descriptor> {
        let digest = digest(&bytes)?;
        let descriptor = DescriptorBuilder::default()
            .media_type(kind)
            .size(bytes.len() as u64)
            .digest(digest.clone())
            .build()?;
        self.0.insert(digest.digest().to_owned(), bytes);
        Ok(descriptor)
    }

    fn archive(self, index: &[u8]) -> Result<Vec<u8>> {
        let layout = json(&OciLayoutBuilder::default().image_layout_version("1.0.0").build()?)?;
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |path: &str, bytes: &[u8]| {
            let mut header = layer::header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
            archive.append_data(&mut header, path, bytes).with_context(|| format!("packing {path}"))
        };
        add("oci-layout", &layout)?;
        add("index.json", index)?;
        for (digest, bytes) in &self.0 {
            add(&format!("blobs/sha256/{digest}"), bytes)?;
        }
        Ok(archive.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use oci_spec::image::{ANNOTATION_TITLE, ImageConfiguration, ImageIndex, ImageManifest};

    use super::*;

    fn packed() -> Packed {
        let labels = Image::Gateway.labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variant =
            |arch, program: &[u8]| Variant { arch, program: program.to_vec(), sbom: b"{}\n".to_vec() };
        let variants = [variant(Arch::Amd64, b"for amd64"), variant(Arch::ARM64, b"for arm64, longer")];
        pack(Image::Gateway, &labels.into(), &variants).unwrap()
    }

    fn files(archive: &[u8]) -> HashMap<String, Vec<u8>> {
        let mut files = HashMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        files
    }

    #[test]
    fn the_same_is_packed_twice() {
        assert!(packed().bytes == packed().bytes);
    }

    /// Follows the descriptors as a container runtime does: nothing else of the archive is looked at.
    #[test]
    fn a_runtime_finds_the_image_of_its_processor() {
        let packed = packed();
        let files = files(&packed.bytes);
        let blob = |descriptor: &Descriptor| {
            let bytes = &files[&format!("blobs/sha256/{}", descriptor.digest().digest())];
            assert_eq!(bytes.len() as u64, descriptor.size());
            assert_eq!(digest(bytes).unwrap().digest(), descriptor.digest().digest());
            bytes.as_slice()
        };
        let root = ImageIndex::from_reader(files["index.json"].as_slice()).unwrap();
        let named = &root.manifests()[0];
        assert_eq!(named.annotations().as_ref().unwrap()[CONTAINERD_NAME], Image::Gateway.reference());
        assert_eq!(named.digest().to_string(), packed.digest);
        let index = ImageIndex::from_reader(blob(named)).unwrap();
        for (of_arch, program) in index.manifests().iter().zip(["for amd64", "for arm64, longer"]) {
            let manifest = ImageManifest::from_reader(blob(of_arch)).unwrap();
            let configuration = ImageConfiguration::from_reader(blob(manifest.config())).unwrap();
            assert_eq!(
                Some(configuration.architecture()),
                of_arch.platform().as_ref().map(|of| of.architecture())
            );
            assert_eq!(configuration.get_config_annotation(ANNOTATION_TITLE), Some("sluice-gateway"));
            let mut layer = Vec::new();
            flate2::read::GzDecoder::new(blob(&manifest.layers()[0])).read_to_end(&mut layer).unwrap();
            let diff_id = format!("sha256:{}", digest(&layer).unwrap().digest());
            assert_eq!(configuration.rootfs().diff_ids(), &[diff_id]);
            let layer = super::tests::files(&layer);
            assert_eq!(layer["sluice-gateway"], program.as_bytes());
        }
        let bills: Vec<ImageManifest> =
            root.manifests()[1..].iter().map(|of| ImageManifest::from_reader(blob(of)).unwrap()).collect();
        let subjects: Vec<_> =
            bills.iter().map(|bill| bill.subject().as_ref().unwrap().digest().clone()).collect();
        assert_eq!(subjects, index.manifests().iter().map(|of| of.digest().clone()).collect::<Vec<_>>());
        assert_eq!(packed.unpacked, "for arm64, longer".len() as u64);
    }
}
