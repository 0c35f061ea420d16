//! The allocator of every process that the pipeline runs in: jemalloc (decision 15). A dataflow holds gigabytes of batches, and
//! frees whole ones as it merges them; rows are made by one thread and freed by another, all the time.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// - `oversize_threshold:0`: large batches are kept for reuse like everything else, instead of being given back to the system the
///   moment they are freed and taken from it anew, page by page.
/// - `background_thread:true`: what is freed is given back after ten seconds also by a process that does nothing, and not by the threads
///   that answer. Where there are no such threads, jemalloc does not start with it.
const OPTIONS: &[u8] = if cfg!(all(target_os = "linux", target_env = "gnu")) {
    b"oversize_threshold:0,background_thread:true\0"
} else {
    b"oversize_threshold:0\0"
};

/// Where jemalloc looks for its options; `_RJEM_MALLOC_CONF` in the environment overrides them, one by one.
#[allow(unsafe_code)]
// SAFETY: jemalloc reads this symbol as a pointer to a C string, which it is: a thin reference to the first of its bytes.
#[unsafe(export_name = "_rjem_malloc_conf")]
static OPTIONS_TEXT: &u8 = &OPTIONS[0];
