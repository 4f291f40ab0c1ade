//! Reading maps many entries at a time: BPF_MAP_LOOKUP_BATCH (Linux 5.6), which aya does not offer.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr,
};

use aya::{
    Pod,
    maps::{IterableMap, MapData},
};

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd`, linux/bpf.h.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The `batch` member of `union bpf_attr`, linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Room for what the kernel calls a batch: a bucket number for hash maps, a key for all others.
type Position = [u64; 8];

/// How far a map has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cursor {
    /// Nothing yet.
    #[default]
    Start,
    /// Up to here.
    At(Position),
    /// All of it.
    End,
}

/// A buffer of entries, used again for every read.
#[derive(Debug)]
pub struct Batch<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
    capacity: usize,
}

impl<K: Pod, V: Pod> Batch<K, V> {
    /// Room for `capacity` entries, more if a hash bucket holds more than that.
    pub fn new(capacity: usize) -> Self {
        Self { keys: Vec::new(), values: Vec::new(), capacity }
    }

    /// Reads the next entries. A hash map's entry that is there from the first read to the last is read exactly once, whatever
    /// happens to the others meanwhile.
    ///
    /// # Errors
    ///
    /// What the kernel says of the system call.
    pub fn read(&mut self, map: &impl IterableMap<K, V>, cursor: &mut Cursor) -> io::Result<()> {
        loop {
            match self.read_once(map.map(), cursor) {
                // A single bucket holds more entries than the buffer.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => self.capacity *= 2,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// The entries of the last read.
    pub fn entries(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.keys.iter().copied().zip(self.values.iter().copied())
    }

    /// How many entries the last read got.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the last read got nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn read_once(&mut self, map: &MapData, cursor: &mut Cursor) -> io::Result<()> {
        const { assert!(size_of::<K>() <= size_of::<Position>()) };
        self.keys.clear();
        self.values.clear();
        if *cursor == Cursor::End {
            return Ok(());
        }
        self.keys.reserve(self.capacity);
        self.values.reserve(self.capacity);
        let mut next = Position::default();
        let mut attr = BatchAttr {
            in_batch: match cursor {
                Cursor::At(position) => ptr::from_ref(position) as u64,
                _ => 0,
            },
            out_batch: ptr::from_mut(&mut next) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: self.capacity as u32,
            map_fd: map.fd().as_fd().as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        // SAFETY: `attr` is as the kernel defines it for this command. The pointers stay valid during the call; `keys` and
        // `values` have room for `count` entries of the sizes that the typed map handle checked, the positions for any key.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_BATCH,
                ptr::from_mut(&mut attr),
                size_of::<BatchAttr>(),
            )
        };
        let error = (result != 0).then(io::Error::last_os_error);
        match error {
            None => *cursor = Cursor::At(next),
            Some(error) if error.raw_os_error() == Some(libc::ENOENT) => *cursor = Cursor::End,
            Some(error) => return Err(error),
        }
        let count = (attr.count as usize).min(self.capacity);
        // SAFETY: the kernel has written `count` keys, which are plain bytes, into room for at least as many.
        unsafe { self.keys.set_len(count) };
        // SAFETY: as above, for the values.
        unsafe { self.values.set_len(count) };
        Ok(())
    }
}

/// All entries of a map.
///
/// # Errors
///
/// As [`Batch::read`].
pub fn read_all<K: Pod, V: Pod>(map: &impl IterableMap<K, V>) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    each_batch(map, |batch| all.extend(batch.entries()))?;
    Ok(all)
}

/// How many entries a map has.
///
/// # Errors
///
/// As [`Batch::read`].
pub fn count<K: Pod, V: Pod>(map: &impl IterableMap<K, V>) -> io::Result<u64> {
    let mut entries = 0;
    each_batch(map, |batch| entries += batch.len() as u64)?;
    Ok(entries)
}

fn each_batch<K: Pod, V: Pod>(
    map: &impl IterableMap<K, V>,
    mut visit: impl FnMut(&Batch<K, V>),
) -> io::Result<()> {
    let mut batch = Batch::new(4096);
    let mut cursor = Cursor::default();
    while cursor != Cursor::End {
        batch.read(map, &mut cursor)?;
        visit(&batch);
    }
    Ok(())
}
