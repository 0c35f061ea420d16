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

/// Ending of files that have not got their name yet; one that is left behind came from a crash and is swept later.
pub(crate) const STAGED: &str = ".staged";

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

fn generic(path: &FsPath, source: io::Error) -> Error {
    let path_text = path.display().to_string();
    match source.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path: path_text, source: source.into() },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path: path_text, source: source.into() },
        _ => Error::Generic { store: "DurableFiles", source: format!("{path_text}: {source}").into() },
    }
}

/// Flushes a folder, so that the names in it survive.
fn sync_folder(folder: &FsPath) -> io::Result<()> {
    // Other systems cannot open a folder to flush it; their renames are journalled.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Creates a folder and its parents, each durable in the one above.
fn create_folder(folder: &FsPath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folder(parent)?;
        match std::fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => sync_folder(parent)?,
        }
    }
    Ok(())
}

fn write_durably(path: &FsPath, payload: &PutPayload, replace: bool) -> Result<()> {
    let folder = path.parent().unwrap_or(FsPath::new("/"));
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}{STAGED}", uuid::Uuid::new_v4().simple()));
    let staged = PathBuf::from(staged);
    let write = || -> io::Result<()> {
        create_folder(folder)?;
        let mut file = File::create_new(&staged)?;
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        if replace { std::fs::rename(&staged, path) } else { std::fs::hard_link(&staged, path) }
    };
    let written = write();
    if !replace || written.is_err() {
        // What cannot be removed now is swept later; the write itself stands or falls without it.
        let _ = std::fs::remove_file(&staged);
    }
    written.and_then(|()| sync_folder(folder)).map_err(|e| generic(path, e))
}

#[async_trait::async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let replace = match opts.mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => {
                let (operation, implementer) = ("PutMode::Update".into(), self.to_string());
                return Err(Error::NotImplemented { operation, implementer });
            }
        };
        let path = self.inner.path_to_filesystem(location)?;
        tokio::task::spawn_blocking(move || write_durably(&path, &payload, replace)).await??;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), parts: Vec::new() }))
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
        tokio::task::spawn_blocking(move || sync_folder(&folder).map_err(|e| generic(&folder, e))).await?
    }
}

/// A write in parts: held in memory until it is complete. Only checkpoints come this way, and they are small.
#[derive(Debug)]
struct Upload {
    store: DurableFiles,
    location: Path,
    parts: Vec<PutPayload>,
}

#[async_trait::async_trait]
impl MultipartUpload for Upload {
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
