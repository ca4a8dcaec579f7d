//! Two names of a directory that change places all the time.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::fcntl::{RenameFlags, renameat2};

/// Exchanges until it is dropped.
#[derive(Debug)]
pub struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    /// Exchanges `a` and `b` in `dir`, from outside of every container.
    pub fn start(dir: &Path, a: &'static str, b: &'static str) -> Self {
        let dir = File::open(dir).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let fd = Some(dir.as_raw_fd());
            while !stopped.load(Ordering::Relaxed) {
                // EBUSY while one of them is a mount point of this namespace.
                let _ = renameat2(fd, a, fd, b, RenameFlags::RENAME_EXCHANGE);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the swapper");
        }
    }
}
