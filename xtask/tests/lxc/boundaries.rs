//! Boundary between the host and a lab: texts that other programs read, open files, sessions.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, e2e_args, engine, said, slot, with_slot};
use super::project::Project;

/// Program for a machine that tries to write each file that it was handed as a stream; then it is `tar`, if it is called so.
const GROW: &str = r#"#!/bin/sh
for number in 0 1 2; do
    file=/proc/$$/fd/$number
    if [ -f $file ] && { echo grown >&$number || truncate -s 77777777 $file || echo grown >> $file; } 2>/dev/null; then
        echo "$0: $number" >> /tmp/grown
    fi
done
echo "$0" >> /tmp/asked
case "$0" in */tar) exec busybox tar "$@";; esac
"#;

/// The engine, called by a shell that has a folder of the host open beside its three streams.
fn with_an_open_folder(project: &Path, words: &[String]) -> Output {
    let script = "exec 9</ 7<>/dev/null; exec \"$@\"";
    let engine = env!("CARGO_BIN_EXE_xtask");
    let command = Command::new("sh").args(["-c", script, "sh", engine]).args(words).dir(project);
    command.deadline(Duration::from_secs(120)).output().unwrap()
}

#[test]
fn values_reach_a_machine_as_they_were_written_and_open_files_do_not() {
    let _host = Host::take();
    let environment = [
        ("QUOTED", "\"a\""),
        ("APOSTROPHE", "it's"),
        ("BLANKS", "a  b"),
        ("HASH", "# lxc.hook.pre-start = /bin/touch /x"),
        ("EQUALS", "=a=b="),
        ("PERCENT", "%n %%"),
        ("SHELL_TEXT", "$HOME `id` $(id) ; & |"),
        ("BACKSLASH", "a\\nb\\"),
        ("LETTERS", "é漢\u{1f600}"),
        ("EMPTY", ""),
    ];
    let init = ["/bin/sh", "/app", "a\"b", "it's", "\"q\"", "#c", "$HOME", "%n", "\\", "é", "'"];
    let mut template = format!(
        "from = \"mini\"\ninit = {}\nrun = [\"ls -l /proc/self/fd > /fds-of-build; rm /bin/tar; cp /grow /bin/tar\"]\n\
         logs = [\"/odd files/*\"]\n[[files]]\nsource = \"app\"\ntarget = \"/app\"\nmode = \"0755\"\n\
         [[files]]\nsource = \"grow\"\ntarget = \"/grow\"\nmode = \"0755\"\n[[probes]]\nexec = [\"/grow\"]\n[environment]\n",
        json!(init)
    );
    for (name, value) in environment {
        template.push_str(&format!("{name} = {}\n", json!(value)));
    }
    let project = Project::new(&template);
    project.write("containers/odd/grow", GROW);
    project.template("odd", &template, "while :; do sleep 1000; done\n");
    let body = format!(
        r#"
    def lines(*words):
        return a.exec(list(words)).stdout_text.split('\n')
    def words(path):
        return [word.decode() for word in a.exec(['cat', path]).stdout.split(b'\0')[:-1]]
    assert words('/proc/1/cmdline') == {init}, words('/proc/1/cmdline')
    for name, value in {environment}:
        for place, found in [('process 1', words('/proc/1/environ')), ('a program', words('/proc/self/environ'))]:
            assert name + '=' + value in found, (place, name, found)
    for place in ['/proc/1/fd', '/proc/self/fd', '/fds-of-build']:
        found = a.exec(['ls', '-l', place] if place.startswith('/proc') else ['cat', place]).stdout_text
        print(place, found, flush=True)
        assert ' 9 -> ' not in found and ' 7 -> /dev/null' not in found and '-> /\n' not in found, found
    own = {{name: os.readlink('/proc/self/fd/' + name) for name in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + name)}}
    assert '9' not in own and '/' not in own.values(), own
    status = open('/proc/self/status').read()
    assert 'NoNewPrivs:\t1\n' in status, status
    assert os.getsid(0) == os.getpid() == os.getpgid(0)
    try:
        open('/dev/tty')
        raise AssertionError('it has a terminal')
    except OSError:
        pass
    for name in ['../x', '.x', 'a\nb', 'a\x1b[31mb', 'a\u202eb', 'a\0b', '', 'x' * 201]:
        try:
            lab.artifact(name, b'x')
            raise AssertionError(name)
        except e2e.RequestError as error:
            assert 'no plain file name' in str(error), error
    lab.artifact('a b.txt', b'x')
    for stdin in [b'', b'x' * 100_000]:
        a.exec(['/grow'], stdin=stdin).success()
    a.write('/tmp/put', b'y' * 100_000)
    assert a.get('/tmp/put') == b'y' * 100_000
    a.exec(['sh', '-c', 'mkdir "$0"; shift; for name; do echo "$name" > "$name"; done', '/odd files', 'sh']
        + ['/odd files/' + name for name in ['x\ny', 'x\x1b[31m', 'x\u202e', '$(touch y)', 'x;id']])
"#,
        init = json!(init),
        environment = json!(environment),
    );
    project.scenario("sees", "odd", "", &body);
    let words = e2e_args(project.path(), &["sees", "--keep-containers=always"]);
    let run = with_an_open_folder(project.path(), &words);
    assert_eq!(run.status, 0, "{}", said(&run));

    // What has a name from inside is kept under one that no terminal obeys.
    let attempt = walkdir::WalkDir::new(project.path().join("target/e2e/latest/")).into_iter().map(Result::unwrap);
    let names: Vec<String> = attempt.map(|entry| entry.file_name().to_str().unwrap().to_owned()).collect();
    for name in
        ["odd files-x_y", "odd files-x_[31m", "odd files-x_", "odd files-$(touch y)", "odd files-x;id", "a b.txt"]
    {
        assert!(names.iter().any(|kept| kept == name), "{name} is not among {names:?}");
    }
    assert!(names.iter().all(|name| !name.contains(char::is_control)), "{names:?}");

    // By hand, too: a program, and a shell.
    for verb in ["exec", "shell"] {
        let words = with_slot(&[verb, "a", "--", "ls", "-l", "/proc/self/fd"]);
        let seen = with_an_open_folder(project.path(), &words);
        assert_eq!(seen.status, 0, "{}", said(&seen));
        assert!(!said(&seen).contains(" 9 -> ") && !said(&seen).contains("-> /\n"), "{}", said(&seen));
    }
    no_file_of_the_host_is_handed_on(project.path());
    let words = with_slot(&["exec", "a", "--", "ls", "/proc/self/fd/0/"]);
    let script = "exec </; exec \"$@\"";
    let refused = Command::new("sh").args(["-c", script, "sh", env!("CARGO_BIN_EXE_xtask")]).args(&words);
    let refused = refused.dir(project.path()).output().unwrap();
    assert_eq!(refused.status, 2, "{}", said(&refused));
    assert!(said(&refused).contains("standard input is a folder"), "{}", said(&refused));

    // What has values of the environment is root's alone.
    let name = fs::read_dir("/var/lib/lxc").unwrap().flatten().map(|entry| entry.path().join("config"));
    let configs: Vec<_> =
        name.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("SHELL_TEXT"))).collect();
    let lab = Path::new("/run/mancer-e2e").join(slot()).join("lab.json");
    assert_eq!(configs.len(), 1, "{configs:?}");
    for path in [&configs[0], &lab] {
        let metadata = fs::metadata(path).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.uid()), (0o600, 0), "{}", path.display());
    }
    engine().args(with_slot(&["down"])).dir(project.path()).run().unwrap();
}

/// A program that is let in by hand, with files as its streams, and the machine's tar, while files are copied: neither holds a file.
fn no_file_of_the_host_is_handed_on(project: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("input"), "the input").unwrap();
    let script = "input=$1 output=$2 errors=$3; shift 3; exec \"$@\" <\"$input\" >\"$output\" 2>\"$errors\"";
    let command = Command::new("sh").args(["-c", script, "sh"]).args(["input", "output", "errors"].map(path));
    let command = command.arg(env!("CARGO_BIN_EXE_xtask")).dir(project).deadline(Duration::from_secs(60));
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    let by_hand = |program: &[&str]| {
        let words = [&["exec", "a", "--"], program].concat();
        let status = command.clone().args(with_slot(&words)).output().unwrap().status;
        (status, read("output"), read("errors"))
    };
    let asked = by_hand(&["/grow"]);
    assert_eq!(asked.0, 0, "{asked:?}");
    assert!(read("input") == "the input" && asked.1.len() + asked.2.len() < 1000, "{asked:?}");
    // A pipe with a name is brought through another one, too.
    Command::new("mkfifo").arg(path("named")).run().unwrap();
    let script = format!("exec 9<>{0}; echo by name >&9; exec \"$@\" <{0} 9<&-", path("named"));
    let named = Command::new("sh").args(["-c", &script, "sh", env!("CARGO_BIN_EXE_xtask")]).dir(project);
    let look = "read line; echo $line; readlink /proc/self/fd/0";
    let seen = named.args(with_slot(&["exec", "a", "--", "sh", "-c", look])).run().unwrap().text();
    assert!(seen.starts_with("by name\npipe:["), "{seen}");
    let words = ["sh", "-c", "cat; echo no >&2; sleep 1000 & exit 7"];
    assert_eq!(by_hand(&words), (7, "the input".to_owned(), "no\n".to_owned()));
    for (from, to) in [(path("input"), "a:/tmp/copied".to_owned()), ("a:/tmp/copied".to_owned(), path("back"))] {
        engine().args(with_slot(&["cp", &from, &to])).dir(project).run().unwrap();
    }
    assert_eq!(read("back"), "the input");
    let seen = by_hand(&["sh", "-c", "cat /tmp/grown 2>/dev/null; sort -u /tmp/asked"]);
    assert_eq!(seen.1, "/bin/tar\n/grow\n", "what grew, then what has tried");
}
