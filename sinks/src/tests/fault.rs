//! A store that fails at the n-th write or removal, before it is done or after: a crash at every step of the protocol,
//! without a line for it in the product.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use futures::{FutureExt, StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

use crate::store::{DurableFiles, DurableStore};

/// When and how it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the write: nothing works any more.
    CrashBefore,
    /// The process dies after the write, before it hears of it.
    CrashAfter,
    /// One write fails without effect, later ones work.
    HiccupBefore,
    /// One write is done and yet reported as failed, later ones work.
    HiccupAfter,
}

#[derive(Clone, Debug)]
pub struct FaultyStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: DurableFiles,
    fault: Fault,
    at: usize,
    seen: AtomicUsize,
    dead: AtomicBool,
}

impl FaultyStore {
    pub fn new(fault: Fault, at: usize) -> Self {
        let (files, seen, dead) = (DurableFiles::default(), AtomicUsize::new(0), AtomicBool::new(false));
        Self(Arc::new(Inner { files, fault, at, seen, dead }))
    }

    /// Whether the fault has happened.
    pub fn fired(&self) -> bool {
        self.0.seen.load(SeqCst) > self.0.at
    }

    fn error(&self) -> Error {
        Error::Generic {
            store: "FaultyStore",
            source: format!("injected at step {}: {:?}", self.0.at, self.0.fault).into(),
        }
    }

    fn alive(&self) -> Result<()> {
        if self.0.dead.load(SeqCst) { Err(self.error()) } else { Ok(()) }
    }

    async fn step<T>(&self, run: impl Future<Output = Result<T>>) -> Result<T> {
        self.alive()?;
        if self.0.seen.fetch_add(1, SeqCst) != self.0.at {
            return run.await;
        }
        self.0.dead.store(matches!(self.0.fault, Fault::CrashBefore | Fault::CrashAfter), SeqCst);
        if matches!(self.0.fault, Fault::CrashAfter | Fault::HiccupAfter) {
            run.await?;
        }
        Err(self.error())
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl DurableStore for FaultyStore {
    fn flush_folders(&self, folder: &std::path::Path) -> Result<()> {
        self.alive()?;
        self.0.files.flush_folders(folder)
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.step(self.0.files.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.step(self.0.files.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.0.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.step(store.0.files.delete(&location)).await.map(|()| location)
                }
                .boxed()
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.0.files.list(prefix),
            Err(e) => futures::stream::iter([Err(e)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.0.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.step(self.0.files.copy_opts(from, to, options)).await
    }
}
