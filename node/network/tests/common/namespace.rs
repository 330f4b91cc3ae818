//! Network namespaces made for one test. Each belongs to a thread and ends with it.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, and the thread that lives in it.
pub(crate) struct Namespace {
    jobs: mpsc::Sender<Job>,
    path: PathBuf,
}

impl Namespace {
    /// A new one; none where the test lacks the privilege.
    #[expect(unsafe_code, reason = "unshare is unsafe because of flags that are not used here")]
    pub(crate) fn new() -> Option<Self> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: only the network namespace is unshared, which no pointer or descriptor of others depends on.
            let made = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
            let (process, thread) = (std::process::id(), rustix::thread::gettid());
            let path = format!("/proc/{process}/task/{}/ns/net", thread.as_raw_nonzero());
            let _ = ready.send(made.map(|()| PathBuf::from(path)));
            work.into_iter().for_each(|job| job());
        });
        match is_ready.recv().ok()? {
            Ok(path) => Some(Self { jobs, path }),
            Err(error) => {
                // Under `cargo xtask test` a machine that cannot make namespaces leaves this test out.
                assert!(std::env::var_os("CORTEN_MUST_RUN").is_none(), "cannot make a namespace: {error}");
                println!("skipped: needs root ({error})");
                None
            }
        }
    }

    /// The file that stands for it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs something in it. A panic there is one here.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let _ = done.send(result);
        };
        self.jobs.send(Box::new(job)).expect("the namespace's thread lives");
        match result.recv().expect("the namespace's thread lives") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
