//! How the C library hands out libtorch's memory.

/// Keeps freed memory within the process. By default glibc gives every large tensor's pages back to the kernel and gets
/// them anew a moment later, zeroed, one page fault each: on one thread that cost a third of a training step.
pub fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets parameters of the allocator; a refusal leaves them as they were.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
