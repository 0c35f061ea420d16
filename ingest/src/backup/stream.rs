//! The frames of a backup: what is written, and what is read of it, each frame checked before it is handed on.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::BackupError;

const MAGIC: &[u8] = b"flowsync backup ";
const VERSION: &[u8] = b"1\n";

/// Content of a frame that is written, about.
pub(super) const FRAME_BYTES: usize = 256 << 10;

/// Content of a frame that is read: a record and what stands for it, each as large as can be, and more.
const FRAME_BYTES_MAX: u32 = 600 << 20;

const HASH_BYTES: usize = 32;

/// One frame.
#[derive(Debug)]
pub(super) enum Frame {
    Section(String),
    Data(Vec<u8>),
    End(Vec<u8>),
}

fn hash(before: &[u8; HASH_BYTES], head: &[u8], content: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::new().chain_update(before).chain_update(head).chain_update(content).finalize().into()
}

/// Writes frames. What is added to a section is gathered.
pub(super) struct Frames<W> {
    out: W,
    last: [u8; HASH_BYTES],
    gathered: Vec<u8>,
    pub bytes: u64,
}

impl<W: Write> Frames<W> {
    pub fn begin(mut out: W) -> Result<Self, BackupError> {
        out.write_all(&[MAGIC, VERSION].concat()).map_err(BackupError::Written)?;
        let bytes = (MAGIC.len() + VERSION.len()) as u64;
        Ok(Self { out, last: [0; HASH_BYTES], gathered: Vec::new(), bytes })
    }

    fn frame(&mut self, kind: u8, content: &[u8]) -> Result<(), BackupError> {
        let too_long = |_| BackupError::Written(io::Error::other("a frame is too long"));
        let length = u32::try_from(content.len()).map_err(too_long)?.to_be_bytes();
        let head = [kind, length[0], length[1], length[2], length[3]];
        self.last = hash(&self.last, &head, content);
        let parts = [&head[..], content, &self.last];
        self.bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        parts.iter().try_for_each(|part| self.out.write_all(part)).map_err(BackupError::Written)
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let content = std::mem::take(&mut self.gathered);
        self.frame(b'D', &content)?;
        // The same memory again, unless a large record took more.
        self.gathered = if content.capacity() > 4 * FRAME_BYTES { Vec::new() } else { content };
        self.gathered.clear();
        Ok(())
    }

    pub fn section(&mut self, name: &str) -> Result<(), BackupError> {
        self.flush()?;
        self.frame(b'S', name.as_bytes())
    }

    /// Adds to the section; `part` is not divided between frames.
    pub fn add(&mut self, part: &[u8]) -> Result<(), BackupError> {
        self.gathered.extend_from_slice(part);
        if self.gathered.len() >= FRAME_BYTES { self.flush() } else { Ok(()) }
    }

    pub fn end(mut self, totals: &[u8]) -> Result<u64, BackupError> {
        self.flush()?;
        self.frame(b'E', totals)?;
        self.out.flush().map_err(BackupError::Written)?;
        Ok(self.bytes)
    }
}

/// Reads frames.
pub(super) struct Framed<R> {
    input: R,
    last: [u8; HASH_BYTES],
    /// The section that is being read.
    pub section: String,
    pub bytes: u64,
}

impl<R: Read> Framed<R> {
    pub fn begin(input: R) -> Result<Self, BackupError> {
        let mut framed = Self { input, last: [0; HASH_BYTES], section: "its beginning".into(), bytes: 0 };
        let head = framed.read(MAGIC.len() + VERSION.len());
        match head {
            Ok(head) if head == [MAGIC, VERSION].concat() => Ok(framed),
            Ok(head) => Err(match head.strip_prefix(MAGIC) {
                Some(found) => BackupError::Newer { found: String::from_utf8_lossy(found).trim().to_owned() },
                None => BackupError::NoBackup,
            }),
            Err(BackupError::Truncated { .. }) => Err(BackupError::NoBackup),
            Err(error) => Err(error),
        }
    }

    pub fn damaged(&self, detail: impl Into<String>) -> BackupError {
        BackupError::Damaged { section: self.section.clone(), detail: detail.into() }
    }

    /// Takes memory as the bytes come, and not for what a damaged length says.
    fn read(&mut self, length: usize) -> Result<Vec<u8>, BackupError> {
        let mut out = Vec::with_capacity(length.min(2 * FRAME_BYTES));
        self.input.by_ref().take(length as u64).read_to_end(&mut out).map_err(BackupError::Read)?;
        if out.len() < length {
            return Err(BackupError::Truncated { section: self.section.clone() });
        }
        self.bytes += length as u64;
        Ok(out)
    }

    pub fn next(&mut self) -> Result<Frame, BackupError> {
        let head = self.read(5)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged("a frame says that it is longer than any"));
        }
        let content = self.read(length as usize)?;
        self.last = hash(&self.last, &head, &content);
        if self.read(HASH_BYTES)? != self.last {
            return Err(self.damaged("its hash is another"));
        }
        match head[0] {
            b'D' => Ok(Frame::Data(content)),
            b'S' => {
                let name = String::from_utf8(content).map_err(|_| self.damaged("a section's name is no text"))?;
                self.section.clone_from(&name);
                Ok(Frame::Section(name))
            }
            b'E' => {
                self.section = "its end".into();
                if self.input.read(&mut [0]).map_err(BackupError::Read)? > 0 {
                    return Err(self.damaged("something comes behind it"));
                }
                Ok(Frame::End(content))
            }
            _ => Err(self.damaged("a frame of an unknown kind")),
        }
    }
}
