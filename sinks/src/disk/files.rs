//! The disk as the sink and the Delta library use it: each call is one step, or several.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path as FsPath, PathBuf},
};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

use super::{File, Lie, SimulatedDisk, folder_of, path_of};
use crate::store::{Disk, DurableStore, NewFile, Upload, generic, replaces, write_durably};

/// A file that is being written.
pub struct Written {
    disk: SimulatedDisk,
    file: u64,
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.step(true, |state, part| {
            let end = if part { state.rng.usize(0..=bytes.len()) } else { bytes.len() };
            let Some(file) = state.files.get_mut(&self.file) else { return Err(io::ErrorKind::NotFound.into()) };
            file.bytes.extend_from_slice(&bytes[..end]);
            Ok(end)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Written {
    fn make_durable(&mut self) -> io::Result<()> {
        self.disk.step(false, |state, part| {
            let lies = state.lie == Lie::Files;
            if let Some(file) = state.files.get_mut(&self.file)
                && !part
                && !lies
            {
                file.flushed = file.bytes.len();
            }
            Ok(())
        })
    }
}

impl Disk for SimulatedDisk {
    type File = Written;

    fn has_folder(&self, folder: &FsPath) -> bool {
        self.state().folders.contains(folder)
    }

    fn create_folder(&self, folder: &FsPath) -> io::Result<()> {
        self.step(true, |state, part| {
            if !part {
                state.folders.insert(folder.to_owned());
            }
            Ok(())
        })
    }

    fn create(&self, path: &FsPath) -> io::Result<Written> {
        let file = self.step(true, |state, part| {
            if part {
                return Ok(0);
            }
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.next_file += 1;
            let file = state.next_file;
            state.files.insert(file, File::default());
            state.add(path.to_owned(), file);
            Ok(file)
        })?;
        Ok(Written { disk: self.clone(), file })
    }

    fn rename(&self, from: &FsPath, to: &FsPath) -> io::Result<()> {
        self.names(to);
        self.step(false, |state, part| {
            if !part {
                let file = state.remove(from)?;
                state.add(to.to_owned(), file);
            }
            Ok(())
        })
    }

    fn link(&self, from: &FsPath, to: &FsPath) -> io::Result<()> {
        self.names(to);
        self.step(true, |state, part| {
            if part {
                return Ok(());
            }
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            state.add(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, path: &FsPath) -> io::Result<()> {
        self.step(false, |state, part| if part { Ok(()) } else { state.remove(path).map(drop) })
    }

    fn flush_folder(&self, folder: &FsPath) -> io::Result<()> {
        self.step(false, |state, part| {
            if !part && state.lie != Lie::Folders {
                state.flush_folder(folder);
            }
            Ok(())
        })
    }
}

impl DurableStore for SimulatedDisk {
    fn flush_folders(&self, folder: &FsPath) -> Result<()> {
        let folders: BTreeSet<PathBuf> = self.state().names.keys().map(|name| folder_of(name).to_owned()).collect();
        let mut within = folders.iter().filter(|within| within.starts_with(folder));
        within.try_for_each(|folder| Disk::flush_folder(self, folder).map_err(|e| generic(folder, e)))
    }
}

#[async_trait::async_trait]
impl ObjectStore for SimulatedDisk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        write_durably(self, &path_of(location), &payload, replaces(self, &opts)?)?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::new(self.clone(), location.clone())))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = path_of(location);
        let found = self.step(false, |state, part| {
            let file = *state.names.get(&path).ok_or(io::ErrorKind::NotFound)?;
            if part { Err(io::ErrorKind::Other.into()) } else { Ok((file, state.files[&file].bytes.clone())) }
        });
        let (file, bytes) = found.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: location.to_string(), source: e.into() },
            _ => generic(&path, e),
        })?;
        let meta = self.meta(&self.state(), &path, file)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(|e| generic(&path, io::Error::other(e)))?,
            None => 0..meta.size,
        };
        let wanted = Bytes::from(bytes).slice(range.start as usize..range.end as usize);
        let payload = GetResultPayload::Stream(stream::once(async { Ok(wanted) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let disk = self.clone();
        let deleted = locations.map(move |location| {
            let location = location?;
            match Disk::remove(&disk, &path_of(&location)) {
                Ok(()) => Ok(location),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(Error::NotFound { path: location.to_string(), source: e.into() })
                }
                Err(e) => Err(generic(&path_of(&location), e)),
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.listed(prefix) {
            Ok(all) => stream::iter(all.into_iter().map(Ok)).boxed(),
            Err(e) => stream::iter([Err(e)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (mut objects, mut folders) = (Vec::new(), BTreeSet::new());
        let depth = prefix.map_or(0, |prefix| prefix.parts().count());
        for meta in self.listed(prefix)? {
            let parts: Vec<_> = meta.location.parts().collect();
            if parts.len() == depth + 1 {
                objects.push(meta);
            } else {
                folders.insert(parts.into_iter().take(depth + 1).collect::<Path>());
            }
        }
        let common_prefixes = folders.into_iter().collect();
        Ok(ListResult { common_prefixes, objects })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (path_of(from), path_of(to));
        let replace = options.mode == CopyMode::Overwrite && self.state().names.contains_key(&to);
        let copy = || {
            if replace {
                Disk::remove(self, &to)?;
            }
            self.link(&from, &to)?;
            Disk::flush_folder(self, folder_of(&to))
        };
        copy().map_err(|e| generic(&to, e))
    }
}
