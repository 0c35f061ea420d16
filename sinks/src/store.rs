//! Files that survive power loss: the local file system as an object store whose writes are durable when they return.
//!
//! `object_store::local::LocalFileSystem` renames files into place without flushing them, so that a power loss can leave a
//! name that points to nothing. Here every write goes to a staged file, is flushed, gets its name in one step, and then
//! the folder is flushed. All that the sink and the Delta library write (data files, log entries, checkpoints,
//! manifests) passes through this one place, so that a manifest never names bytes that a power loss can take (I1, I4).
//!
//! Must not know: tables, epochs, Delta.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    path::{Path as FsPath, PathBuf},
};

use futures::{FutureExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, local::LocalFileSystem, path::Path,
};

/// A store whose writes are durable when they return.
pub(crate) trait DurableStore: ObjectStore {
    /// Flushes a folder, where there is one, all below it, and its name. A process that died, or a write that failed, can have
    /// left names that this one sees and that a power loss would take; what is built on them must not outlive them.
    fn flush_folders(&self, folder: &FsPath) -> Result<()>;
}

/// Ending of files that have not got their name yet; one that is left behind came from a crash and is swept later.
pub(crate) const STAGED: &str = ".staged";

/// What a durable write asks of a disk: the real one, and in tests one that fails on purpose.
pub(crate) trait Disk {
    /// A file that is being written.
    type File: NewFile;

    fn has_folder(&self, folder: &FsPath) -> bool;
    fn create_folder(&self, folder: &FsPath) -> io::Result<()>;
    /// A file of which there was none.
    fn create(&self, path: &FsPath) -> io::Result<Self::File>;
    /// Gives a file another name, in place of whatever had it.
    fn rename(&self, from: &FsPath, to: &FsPath) -> io::Result<()>;
    /// Gives a file one more name, which nothing has.
    fn link(&self, from: &FsPath, to: &FsPath) -> io::Result<()>;
    fn remove(&self, path: &FsPath) -> io::Result<()>;
    /// Flushes a folder, so that the names in it survive.
    fn flush_folder(&self, folder: &FsPath) -> io::Result<()>;
}

/// A file that is being written.
pub(crate) trait NewFile: Write {
    /// Flushes what was written, so that it survives.
    fn make_durable(&mut self) -> io::Result<()>;
}

/// The file system of this machine.
struct Local;

impl NewFile for File {
    fn make_durable(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for Local {
    type File = File;

    fn has_folder(&self, folder: &FsPath) -> bool {
        folder.is_dir()
    }

    fn create_folder(&self, folder: &FsPath) -> io::Result<()> {
        std::fs::create_dir(folder)
    }

    fn create(&self, path: &FsPath) -> io::Result<File> {
        File::create_new(path)
    }

    fn rename(&self, from: &FsPath, to: &FsPath) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &FsPath, to: &FsPath) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &FsPath) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn flush_folder(&self, folder: &FsPath) -> io::Result<()> {
        // Other systems cannot open a folder to flush it; their renames are journalled.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

/// The local file system with durable writes. Paths are absolute, without the leading slash.
#[derive(Clone, Debug, Default)]
pub(crate) struct DurableFiles {
    inner: LocalFileSystem,
}

impl fmt::Display for DurableFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableFiles({})", self.inner)
    }
}

pub(crate) fn generic(path: &FsPath, source: io::Error) -> Error {
    let path_text = path.display().to_string();
    match source.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path: path_text, source: source.into() },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path: path_text, source: source.into() },
        _ => Error::Generic { store: "DurableFiles", source: format!("{path_text}: {source}").into() },
    }
}

/// Creates a folder and its parents, each durable in the one above.
fn create_folders(disk: &impl Disk, folder: &FsPath) -> io::Result<()> {
    if disk.has_folder(folder) {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folders(disk, parent)?;
        match disk.create_folder(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => disk.flush_folder(parent)?,
        }
    }
    Ok(())
}

/// Flushes a folder and all below it.
fn flush_all(folder: &FsPath) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            flush_all(&entry.path())?;
        }
    }
    Local.flush_folder(folder)
}

/// Writes a file so that it survives power loss under its name, or leaves what was there.
pub(crate) fn write_durably(disk: &impl Disk, path: &FsPath, payload: &PutPayload, replace: bool) -> Result<()> {
    let folder = path.parent().unwrap_or(FsPath::new("/"));
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}{STAGED}", uuid::Uuid::new_v4().simple()));
    let staged = PathBuf::from(staged);
    let write = || -> io::Result<()> {
        create_folders(disk, folder)?;
        let mut file = disk.create(&staged)?;
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.make_durable()?;
        if replace { disk.rename(&staged, path) } else { disk.link(&staged, path) }
    };
    let written = write();
    if !replace || written.is_err() {
        // What cannot be removed now is swept later; the write itself stands or falls without it.
        let _ = disk.remove(&staged);
    }
    written.and_then(|()| disk.flush_folder(folder)).map_err(|e| generic(path, e))
}

/// Whether a put replaces what is there.
pub(crate) fn replaces(store: &impl fmt::Display, opts: &PutOptions) -> Result<bool> {
    match opts.mode {
        PutMode::Overwrite => Ok(true),
        PutMode::Create => Ok(false),
        PutMode::Update(_) => {
            let (operation, implementer) = ("PutMode::Update".into(), store.to_string());
            Err(Error::NotImplemented { operation, implementer })
        }
    }
}

impl DurableStore for DurableFiles {
    fn flush_folders(&self, folder: &FsPath) -> Result<()> {
        if !folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().map_or(Ok(()), |parent| Local.flush_folder(parent));
        parent.and_then(|()| flush_all(folder)).map_err(|e| generic(folder, e))
    }
}

#[async_trait::async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let replace = replaces(self, &opts)?;
        let path = self.inner.path_to_filesystem(location)?;
        tokio::task::spawn_blocking(move || write_durably(&Local, &path, &payload, replace)).await??;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::new(self.clone(), location.clone())))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        let path = self.inner.path_to_filesystem(to)?;
        let folder = path.parent().unwrap_or(FsPath::new("/")).to_owned();
        tokio::task::spawn_blocking(move || Local.flush_folder(&folder).map_err(|e| generic(&folder, e))).await?
    }
}

/// A write in parts: held in memory until it is complete. Only checkpoints come this way, and they are small.
#[derive(Debug)]
pub(crate) struct Upload<S> {
    store: S,
    location: Path,
    parts: Vec<PutPayload>,
}

impl<S> Upload<S> {
    pub(crate) fn new(store: S, location: Path) -> Self {
        Self { store, location, parts: Vec::new() }
    }
}

#[async_trait::async_trait]
impl<S: ObjectStore> MultipartUpload for Upload<S> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        async { Ok(()) }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = self.parts.drain(..).flatten().collect();
        self.store.put_opts(&self.location, payload, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn a_name_is_given_once_and_nothing_staged_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFiles::default();
        let path = Path::from_absolute_path(dir.path().join("a/b/c.json")).unwrap();
        let create = PutOptions { mode: PutMode::Create, ..Default::default() };
        store.put_opts(&path, "one".into(), create.clone()).await.unwrap();
        let again = store.put_opts(&path, "two".into(), create).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
        store.put(&path, "three".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part("fo".into()).await.unwrap();
        upload.put_part("ur".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        upload.complete().await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "four");
        let names: Vec<_> =
            std::fs::read_dir(dir.path().join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["c.json"]);
    }
}
