//! The protocol that TCP clients and servers of the tests speak: a byte that says what to do, a count, then data.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Echo `count` bytes.
pub const ECHO: u8 = b'E';
/// The client sends `count` bytes, the server answers with their hash.
pub const UPLOAD: u8 = b'U';
/// The server sends `count` bytes of the pattern.
pub const DOWNLOAD: u8 = b'D';
/// The server answers with one line: its number and the peer that it sees.
pub const WHO: u8 = b'W';
/// The server resets the connection.
pub const RESET: u8 = b'R';
/// The server closes the connection.
pub const CLOSE: u8 = b'C';

/// Bytes of an opening: the command and its count.
pub const OPENING: usize = 9;

/// An opening.
pub fn opening(command: u8, count: u64) -> [u8; OPENING] {
    let mut bytes = [command; OPENING];
    bytes[1..].copy_from_slice(&count.to_be_bytes());
    bytes
}

/// Reads an opening; `None` where the client has closed instead.
pub fn read_opening(stream: &mut impl Read) -> io::Result<Option<(u8, u64)>> {
    let mut command = [0; 1];
    if stream.read(&mut command)? == 0 {
        return Ok(None);
    }
    let mut count = [0; 8];
    stream.read_exact(&mut count)?;
    Ok(Some((command[0], u64::from_be_bytes(count))))
}

const BLOCK: usize = 64 * 1024;

/// Bytes that differ from block to block, so that a lost, repeated or swapped segment changes the hash.
pub struct Pattern {
    block: Vec<u8>,
    number: u64,
    left: u64,
}

impl Pattern {
    /// `count` bytes.
    pub fn new(count: u64) -> Self {
        let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            block.extend_from_slice(&word.to_be_bytes());
        }
        Self { block, number: 0, left: count }
    }

    /// The next bytes, if any are left.
    pub fn next_block(&mut self) -> Option<&[u8]> {
        if self.left == 0 {
            return None;
        }
        self.block[..8].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        let length = usize::try_from(self.left).unwrap_or(BLOCK).min(BLOCK);
        self.left -= length as u64;
        self.block.get(..length)
    }

    /// Writes everything.
    pub fn send(mut self, stream: &mut impl Write) -> io::Result<()> {
        while let Some(block) = self.next_block() {
            stream.write_all(block)?;
        }
        Ok(())
    }

    /// The hash of everything.
    pub fn hash(mut self) -> Hash {
        let mut hasher = Sha256::new();
        while let Some(block) = self.next_block() {
            hasher.update(block);
        }
        hasher.finalize().into()
    }
}

/// Reads `count` bytes and hashes them.
pub fn receive(stream: &mut impl Read, count: u64) -> io::Result<Hash> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut left = count;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let got = stream.read(&mut buffer[..want])?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{left} of {count} bytes are missing"),
            ));
        }
        hasher.update(&buffer[..got]);
        left -= got as u64;
    }
    Ok(hasher.finalize().into())
}
