//! What is left of the log's files when a process is killed or power is lost: images of a folder, and what of the difference
//! between two of them reaches the disk.
//!
//! Of tests alone: `cfg(test)`, and the feature `simulation`, which no build of the product has.

#![allow(clippy::unwrap_used)] // A file system that fails here is no finding.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek},
    path::{Path, PathBuf},
};

use fastrand::Rng;
use rustix::fs::SeekFrom;

/// Bytes that a disk writes as one.
const SECTOR: usize = 512;

/// The files of a folder, without the zeros at their ends, and their lengths.
pub type Image = BTreeMap<PathBuf, (Vec<u8>, u64)>;

/// The files of a folder as they are now.
pub fn image(dir: &Path) -> Image {
    let mut files = Image::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut file = File::open(&path).unwrap();
            let length = file.metadata().unwrap().len();
            // Journals are allocated ahead: what follows the first hole was never written.
            let written = if length == 0 { 0 } else { rustix::fs::seek(&file, SeekFrom::Hole(0)).unwrap() };
            file.rewind().unwrap();
            let mut bytes = Vec::new();
            file.take(written).read_to_end(&mut bytes).unwrap();
            bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
            files.insert(path.strip_prefix(dir).unwrap().to_owned(), (bytes, length));
        }
    }
    files
}

/// Makes the files of an image in a folder.
pub fn write(image: &Image, dir: &Path) {
    for (name, (bytes, length)) in image {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(*length).unwrap();
    }
}

/// What is on the disk when power is lost while it goes from one image to the other: of what was added to a journal, some
/// sectors, but never less than `before` has.
pub fn torn(before: &Image, after: &Image, rng: &mut Rng) -> Image {
    let mut out = before.clone();
    // The mark is written when the append is acknowledged, and so not at all.
    for (name, (new, length)) in after.iter().filter(|(name, _)| name.extension().is_some_and(|e| e == "jnl")) {
        let old = before.get(name).map_or(&[][..], |(old, _)| old.as_slice());
        let mut bytes = new.clone();
        if bytes.len() > old.len() {
            let mut at = old.len();
            while at < bytes.len() {
                let end = ((at / SECTOR + 1) * SECTOR).min(bytes.len());
                if rng.bool() {
                    bytes[at..end].fill(0);
                }
                at = end;
            }
        }
        out.insert(name.clone(), (bytes, *length));
    }
    out
}
