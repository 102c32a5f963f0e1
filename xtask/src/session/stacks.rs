//! Stacks of a scenario that has exceeded its deadline: its threads write them to a file at a signal, and one line summarizes them.
//! Each thread is asked to write its own stack: reading the stack of another thread that runs or ends may crash the scenario.

use std::ffi::OsStr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};

use super::bounds::shorten;
use super::state::Session;
use crate::host::cgroup::Tree;
use crate::host::exec::signals;
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;
use crate::record::Event;

/// Name of the artifact with the stacks.
const FILE: &str = "stacks-at-timeout.txt";

/// Signal at which a thread of the scenario writes its stack.
const SIGNAL: Signal = Signal::SIGUSR1;

/// Deadline for a process to write its stacks; it may have to wait for the processor.
const WRITE_DEADLINE: Deadline = Deadline::from_secs(2);

/// Processor time, in clock ticks, within which a thread starts to write its stack or unblocks the signal after a short block.
const TICKS_TO_BEGIN: u64 = 2;

/// Interval between two checks of the process's signal masks: the kernel does not report the end of a handler.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Maximum number of frames of the main thread in the summary of a scenario's stacks.
const FRAMES_MAX: usize = 3;
const THREADS_MAX: usize = 2;

/// Maximum characters of a source line in the summary.
const SOURCE_CHARS_MAX: usize = 80;

/// Names of the folders that Python packages are installed in; their code is not the scenario author's.
const FOREIGN: [&str; 2] = ["site-packages", "dist-packages"];
const PYTHON: &str = "python3.";

/// Stacks of a process, as its threads wrote them.
#[derive(Debug, Default)]
struct Stacks {
    main: String,
    /// Stacks of all threads but the main one, the newest thread last.
    others: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    file: PathBuf,
    line: usize,
    function: String,
}

impl Session {
    /// Records which process is at the other end of the connection.
    pub fn note_driver(&self, connection: &UnixStream) {
        let peer = getsockopt(connection, sockopt::PeerCredentials).ok();
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = peer.map(|peer| peer.pid());
    }

    /// Returns the path of the file that the scenario may write its stacks to.
    pub(super) fn stack_file(&self) -> PathBuf {
        self.spec.artifacts.join(FILE)
    }

    /// Makes the scenario's process write its stacks, and describes where they are in its author's code.
    pub(super) fn take_stacks(&self, scenario: &Tree) -> Option<String> {
        let driver = *self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        // Its number may be another process's by now; none outside of the scenario's group gets a signal.
        let driver = driver.filter(|driver| scenario.pids().contains(driver))?;
        let stacks = ask(driver, &self.stack_file(), &self.spec.invoker, WRITE_DEADLINE.scaled())?;
        let path = format!("{}/{FILE}", self.spec.artifacts_in_run);
        let size_bytes = (stacks.main.len() + stacks.others.len()) as u64;
        self.recorder.record(Event::Artifact { case: self.spec.case.clone(), path, size_bytes });
        let read = |path: &Path| self.spec.invoker.read(path).ok();
        told(&stacks, self.project_root(), &read)
    }

    /// Removes the file for stacks if it is empty.
    pub(super) fn drop_empty_stacks(&self) {
        let file = self.stack_file();
        let _ = self.spec.invoker.act(|| {
            if std::fs::symlink_metadata(&file)?.len() == 0 {
                std::fs::remove_file(&file)?;
            }
            Ok(())
        });
    }
}

/// Asks the threads of a process to write their stacks to this file; `None` if the process does not handle the signal.
fn ask(pid: i32, file: &Path, invoker: &Invoker, deadline: Duration) -> Option<Stacks> {
    if !signals::handles(pid, SIGNAL) {
        return None; // it would end by this signal
    }
    let begun = Instant::now();
    let mut written = invoker.read(file).ok()?.len();
    let mut stacks = Stacks::default();
    // One after the other: faulthandler leaves out a thread that is asked while another one writes.
    for thread in signals::threads(pid) {
        let until = begun + deadline;
        if keeps_it_blocked(pid, thread, until) {
            continue;
        }
        let content = ask_thread(pid, thread, written, until, &|| invoker.read(file).ok())?;
        let text = String::from_utf8_lossy(content.get(written..).unwrap_or_default()).into_owned();
        written = content.len();
        if thread == pid {
            stacks.main = text;
        } else {
            stacks.others.push_str(&text);
        }
        if begun.elapsed() >= deadline {
            break;
        }
    }
    (!stacks.main.is_empty() || !stacks.others.is_empty()).then_some(stacks)
}

/// Tells whether a thread keeps the signal blocked, watched until `until` at most; a thread that starts or ends another one blocks the
/// signal only for a moment.
fn keeps_it_blocked(pid: i32, thread: i32, until: Instant) -> bool {
    let mut first = None;
    while let Some(now) = signals::thread(pid, thread, SIGNAL).filter(|now| now.is_blocked) {
        let first = *first.get_or_insert(now.ticks);
        if !now.is_under_way || now.ticks >= first + TICKS_TO_BEGIN || Instant::now() >= until {
            return true;
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    false
}

/// Asks a thread to write its stack; returns the file's content afterwards.
fn ask_thread(
    pid: i32,
    thread: i32,
    before: usize,
    until: Instant,
    read: &dyn Fn() -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let asked_at = signals::thread(pid, thread, SIGNAL).map_or(0, |state| state.ticks);
    signals::send_to_thread(pid, thread, SIGNAL);
    // Between the signal's way to a thread and its handler neither is seen, and nothing is written yet; but the thread is under way.
    while let Some(now) = signals::thread(pid, thread, SIGNAL) {
        let may_begin = now.is_under_way && now.ticks < asked_at + TICKS_TO_BEGIN && read()?.len() <= before;
        if (!now.is_pending && !now.is_blocked && !may_begin) || Instant::now() >= until {
            break;
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    read()
}

/// Parses stacks of threads in the format of Python's `faulthandler`, each with its innermost frame first.
fn parse(text: &str) -> Vec<Vec<Frame>> {
    let mut threads: Vec<Vec<Frame>> = Vec::new();
    for line in text.lines() {
        if line.contains("most recent call first") {
            threads.push(Vec::new());
        } else if let (Some(frame), Some(thread)) = (frame(line), threads.last_mut()) {
            thread.push(frame);
        }
    }
    threads
}

/// Parses a line of a stack, `  File "main.py", line 14 in scenario`.
fn frame(line: &str) -> Option<Frame> {
    let (file, rest) = line.trim_start().strip_prefix("File \"")?.rsplit_once("\", line ")?;
    let (number, function) = rest.split_once(" in ")?;
    Some(Frame { file: file.into(), line: number.parse().ok()?, function: function.to_owned() })
}

/// Describes where the stacks are in the author's code: the innermost frames of the main thread, then one frame of each other thread.
fn told(stacks: &Stacks, root: &Path, read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Option<String> {
    // A client that writes the stacks of all threads at each signal writes the main thread's last, as faulthandler does.
    let main = parse(&stacks.main).pop().unwrap_or_default();
    let shown = |frame: &Frame| {
        let file = frame.file.strip_prefix(root).unwrap_or(&frame.file);
        let content = read(&frame.file).unwrap_or_default();
        let source = String::from_utf8_lossy(&content);
        let line = source.lines().nth(frame.line.saturating_sub(1)).map(str::trim).filter(|line| !line.is_empty());
        let source = line.map_or_else(String::new, |line| format!(": {}", shorten(line, SOURCE_CHARS_MAX)));
        format!("{}:{} in {}{source}", file.display(), frame.line, frame.function)
    };
    let mut places: Vec<String> = Vec::new();
    let frames = authors(&main, root);
    let frames: Vec<String> = frames.iter().take(FRAMES_MAX).map(|frame| shown(frame)).collect();
    if !frames.is_empty() {
        places.push(format!("it stood at {}", frames.join(", called at ")));
    }
    let others = parse(&stacks.others);
    let others = others.iter().filter_map(|thread| authors(thread, root).first().copied());
    places.extend(others.take(THREADS_MAX).map(|frame| format!("another thread at {}", shown(frame))));
    (!places.is_empty()).then(|| places.join("; "))
}

/// Returns the frames in the scenario author's code: those in the project's folder, else those outside of libraries.
fn authors<'a>(thread: &'a [Frame], root: &Path) -> Vec<&'a Frame> {
    let is_own = |frame: &&Frame| {
        let is_foreign = frame
            .file
            .iter()
            .filter_map(OsStr::to_str)
            .any(|folder| FOREIGN.contains(&folder) || folder.starts_with(PYTHON) || folder.starts_with('<'));
        !is_foreign && !frame.file.ends_with("sdk/e2e.py")
    };
    // The module's own line, which called `run`, says nothing where a function stands below it.
    let is_module = |frame: &&Frame| frame.function == "<module>";
    let own: Vec<&Frame> = thread.iter().filter(is_own).collect();
    let functions: Vec<&Frame> = own.iter().copied().filter(|frame| !is_module(frame)).collect();
    let own = if functions.is_empty() { own } else { functions };
    let inside: Vec<&Frame> = own.iter().copied().filter(|frame| frame.file.starts_with(root)).collect();
    if inside.is_empty() { own } else { inside }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::exec::shell::Command;

    /// Number of times that the test asks a process for its stacks.
    const TIMES: usize = 20;

    const OTHERS: &str = "Stack (most recent call first):\n  \
        File \"/usr/lib/python3.11/socket.py\", line 706 in readinto\n  \
        File \"/p/target/e2e/RUN/sdk/e2e.py\", line 970 in _deliver_answers\n\
        Stack (most recent call first):\n  \
        File \"/usr/lib/python3.11/queue.py\", line 171 in get\n  \
        File \"/p/scenarios/t/hangs/load.py\", line 2 in work\n";
    const MAIN: &str = "Stack (most recent call first):\n  \
        File \"/p/scenarios/t/hangs/main.py\", line 3 in wait\n  \
        File \"/p/.venv/lib/python3.11/site-packages/_pytest/python.py\", line 9 in call\n  \
        File \"/p/scenarios/t/hangs/main.py\", line 1 in scenario\n  \
        File \"/p/target/e2e/RUN/sdk/e2e.py\", line 847 in _run\n  \
        File \"/p/scenarios/t/hangs/main.py\", line 9 in <module>\n";

    #[test]
    fn the_authors_frames_are_told_with_their_source() {
        let read = |path: &Path| match path.file_name()?.to_str()? {
            "main.py" => Some(b"wait()\n\n    time.sleep(100)  \n".to_vec()),
            _ => None,
        };
        let expected = "it stood at scenarios/t/hangs/main.py:3 in wait: time.sleep(100), called at \
                        scenarios/t/hangs/main.py:1 in scenario: wait(); another thread at \
                        scenarios/t/hangs/load.py:2 in work";
        let told = |main: &str, others: &str| {
            let stacks = Stacks { main: main.to_owned(), others: others.to_owned() };
            told(&stacks, Path::new("/p"), &read)
        };
        assert_eq!(told(MAIN, OTHERS).unwrap(), expected);
        let all_at_once = format!("{OTHERS}{MAIN}");
        assert_eq!(told(&all_at_once, OTHERS).unwrap(), expected);
        let (main, other) = expected.split_once("; ").unwrap();
        assert_eq!((told(MAIN, "").as_deref(), told("", OTHERS).as_deref()), (Some(main), Some(other)));
        assert_eq!(told("Traceback\n", ""), None);
        let outside = "Stack (most recent call first):\n  File \"/elsewhere/x.py\", line 7 in f\n";
        assert_eq!(told(outside, "").unwrap(), "it stood at /elsewhere/x.py:7 in f");
    }

    /// Runs a Python process that installs this handler of the signal and then executes this code; returns whether it is alive after it was
    /// asked for its stacks, and the stacks.
    fn asked(handler: &str, then: &str) -> (bool, Option<Stacks>) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let code = format!(
            "import faulthandler, os, signal, sys, threading, time\nos.chdir(sys.argv[1])\nfile = os.open('stacks', \
             os.O_WRONLY | os.O_CREAT)\n{handler}\nopen('new', 'w').write(str(os.getpid()))\nos.rename('new', 'pid')\nwhile \
             not os.path.exists('done'): {then}\n"
        );
        let command = Command::new("python3").args(["-c", &code]).arg(folder.path()).deadline(Duration::from_secs(60));
        std::thread::scope(|scope| {
            let running = scope.spawn(move || command.output().unwrap().status);
            let begun = Instant::now();
            let pid = loop {
                match std::fs::read_to_string(path("pid")) {
                    Ok(pid) => break pid.parse().unwrap(),
                    Err(_) if begun.elapsed() > Duration::from_secs(60) => panic!("python3 does not start"),
                    Err(_) => std::thread::sleep(LOOK_PAUSE),
                }
            };
            let mut stacks = None;
            for _ in 0..TIMES {
                stacks = ask(pid, &path("stacks"), &Invoker::find(), WRITE_DEADLINE.scaled());
            }
            std::fs::write(path("done"), "").unwrap();
            (running.join().unwrap() == 0, stacks)
        })
    }

    #[test]
    fn threads_write_their_stacks_and_a_process_that_offers_none_is_left_alone() {
        let sleeps = "time.sleep(0.01)";
        let offer = "faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)\ndef other(): time.sleep(60)\n\
                     threading.Thread(target=other, daemon=True).start()";
        let (lives, stacks) = asked(offer, sleeps);
        let stacks = stacks.unwrap();
        assert!(lives && stacks.main.contains("in <module>") && stacks.others.contains("in other"), "{stacks:?}");
        let (lives, stacks) = asked("", sleeps);
        assert!(lives && stacks.is_none(), "its default action would have ended it: {stacks:?}");
        let (lives, stacks) = asked("signal.signal(signal.SIGUSR1, lambda *_: None)", sleeps);
        assert!(lives && stacks.is_none(), "{stacks:?}");
    }

    #[test]
    fn threads_that_begin_and_end_meanwhile_do_not_crash_it() {
        let offer = "faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)\ndef short(depth): \
                     depth and short(depth - 1)\n";
        let begins = "[(thread.start(), thread.join()) for thread in [threading.Thread(target=short, args=(depth,)) \
                      for depth in (3, 1, 8, 5)]]";
        let (lives, stacks) = asked(offer, begins);
        assert!(lives && stacks.as_ref().is_some_and(|it| it.main.contains("in <module>")), "{lives} {stacks:?}");
    }
}
