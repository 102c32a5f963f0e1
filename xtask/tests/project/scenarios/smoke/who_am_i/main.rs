//! Scenario that records the rights it runs with, checks that they are the user's and no more, and tries to gain more through the engine,
//! which is root. It does not use the SDK, which would refuse some of this itself.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use e2e_contract::{
    Artifact, ErrorCode, Exec, Hello, Log, Method, PROTOCOL_VERSION, Put, Request, Response, RpcError, SOCKET_VARIABLE,
    STREAM_BYTES_MAX, Stream,
};
use nix::sys::stat::Mode;

/// Folder of things that only root may use, which `xtask/tests/lxc/as_user.rs` makes beside the project: the file `file` of mode 0440,
/// and the folder `folder` with a file `f` in it.
const ROOTS: &str = "../../../../roots";

fn main() -> Result<()> {
    let mut engine = Engine::connect()?;
    let artifacts = engine.ask(&Hello { protocol: PROTOCOL_VERSION })??.artifacts;
    let user = whose_rights(&mut engine, &artifacts)?;
    if user == 0 {
        let message = "root itself started this run: there is no root-only file to be kept from".to_owned();
        engine.ask(&Log { level: e2e_contract::Level::Info, message })??;
        return Ok(());
    }
    read_what_only_root_may(&mut engine, &artifacts)?;
    write_where_only_root_may(&mut engine, &artifacts)?;
    ask_for_what_cannot_be(&mut engine, &artifacts)?;
    // Planted for what the engine writes when this process has ended.
    let run = artifacts.ancestors().nth(3).context("the artifacts' folder is not in the run's folder")?;
    let prey = std::fs::canonicalize(ROOTS)?.join("file");
    symlink(&prey, artifacts.with_file_name("performance.json.new"))?;
    symlink(&prey, run.join("run.json.new"))?;
    engine.keep("attacks.txt", b"all of them failed\n")??;
    Ok(())
}

fn whose_rights(engine: &mut Engine, artifacts: &Path) -> Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let uids = ids(&status, "Uid:")?;
    let gids = ids(&status, "Gid:")?;
    let groups = ids(&status, "Groups:")?;
    let user = *uids.first().context("/proc/self/status names no user")?;
    engine.keep("who_am_i.txt", format!("uid {uids:?}\ngid {gids:?}\ngroups {groups:?}\n").as_bytes())??;
    ensure!(uids == [user; 4], "real, effective, saved and file system user are {uids:?}");
    let own = artifacts.join("own_file.txt");
    std::fs::write(&own, "written by the scenario itself\n").with_context(|| format!("writing {}", own.display()))?;
    ensure!(own.metadata()?.uid() == user);
    ensure!(artifacts.metadata()?.uid() == user, "the artifacts' folder is not the user's");
    if user != 0 {
        ensure!(!gids.contains(&0) && !groups.contains(&0), "a group of root's is left over");
        let capabilities = line(&status, "CapEff:")?;
        ensure!(capabilities == "0000000000000000", "the scenario has the capabilities {capabilities}");
    }
    Ok(user)
}

fn read_what_only_root_may(engine: &mut Engine, artifacts: &Path) -> Result<()> {
    let pipe = artifacts.join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU)?;
    let roots = std::fs::canonicalize(ROOTS)?.join("file");
    let refused = std::fs::read(&roots).map_err(|error| error.kind()).err();
    ensure!(refused == Some(ErrorKind::PermissionDenied), "reading {} was not refused: {refused:?}", roots.display());
    // By root's rights, by root's group, for ever, until somebody writes, and out of the engine itself.
    for path in [Path::new("/etc/shadow"), &roots, Path::new("/dev/zero"), &pipe, Path::new("/proc/self/maps")] {
        let content = Stream::File { path: path.to_owned(), bytes: 1 };
        let put = Put {
            container: "a".into(),
            path: "/tmp/stolen".into(),
            content: content.clone(),
            mode: 0o644,
            owner: None,
            deadline_ms: 10_000,
        };
        expect_refused(&format!("put of {}", path.display()), engine.ask(&put)?)?;
        let artifact = Artifact { name: "stolen".into(), content };
        expect_refused(&format!("artifact of {}", path.display()), engine.ask(&artifact)?)?;
    }
    std::fs::remove_file(&pipe)?;
    Ok(())
}

fn write_where_only_root_may(engine: &mut Engine, artifacts: &Path) -> Result<()> {
    let roots = std::fs::canonicalize(ROOTS)?;
    // The link is replaced by a file of the user's.
    symlink(roots.join("file"), artifacts.join("planted"))?;
    engine.keep("planted", b"by the scenario\n")??;
    ensure!(std::fs::read(artifacts.join("planted"))? == b"by the scenario\n");
    ensure!(artifacts.join("planted").symlink_metadata()?.is_file(), "the link is still there");

    let aside = artifacts.with_file_name("aside");
    std::fs::rename(artifacts, &aside)?;
    symlink(roots.join("folder"), artifacts)?;
    expect_refused("an artifact in place of root's file", engine.keep("f", b"by the scenario\n")?)?;
    expect_refused("an artifact in root's folder", engine.keep("new", b"by the scenario\n")?)?;
    let large = Exec { argv: words(&["head", "-c", &(STREAM_BYTES_MAX + 1).to_string(), "/dev/zero"]), ..exec() };
    expect_refused("a stream in root's folder", engine.ask(&large)?)?;
    std::fs::remove_file(artifacts)?;
    std::fs::rename(&aside, artifacts)?;
    let kept = engine.ask(&large)??.stdout;
    let Stream::File { path, bytes } = &kept else { bail!("a large stream came inline") };
    ensure!(*bytes == STREAM_BYTES_MAX as u64 + 1 && path.metadata()?.uid() == artifacts.metadata()?.uid());
    Ok(())
}

/// Makes requests that cannot be fulfilled, which is this scenario's mistake: if the engine blamed itself, the case would not pass.
fn ask_for_what_cannot_be(engine: &mut Engine, artifacts: &Path) -> Result<()> {
    std::fs::create_dir(artifacts.join("folder"))?;
    expect_refused("an artifact in a folder's place", engine.keep("folder", b"x")?)?;
    expect_refused("an artifact with a long name", engine.keep(&"x".repeat(300), b"x")?)?;
    let wrong = [
        Exec { user: Some("nobody-of-this-name".into()), ..exec() },
        Exec { argv: words(&["echo", "a\0b"]), ..exec() },
        Exec { environment: vec![("A".into(), "a\0b".into())], ..exec() },
        Exec { environment: vec![("A=B".into(), "c".into())], ..exec() },
        Exec { argv: words(&["echo", &"x".repeat(1 << 20)]), ..exec() },
    ];
    for request in wrong {
        let what = format!("{request:?}").chars().take(200).collect::<String>();
        expect_refused(&what, engine.ask(&request)?)?;
    }
    engine.ask(&exec())??;
    Ok(())
}

fn exec() -> Exec {
    Exec {
        container: "a".into(),
        argv: words(&["true"]),
        stdin: None,
        environment: Vec::new(),
        user: None,
        deadline_ms: 30_000,
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn expect_refused<T>(what: &str, answer: Result<T, RpcError>) -> Result<()> {
    let code = answer.err().with_context(|| format!("{what} was not refused"))?.code;
    ensure!(code == ErrorCode::InvalidParams as i64, "{what} was answered with {code}");
    Ok(())
}

struct Engine {
    socket: BufReader<UnixStream>,
    asked: u64,
}

impl Engine {
    fn connect() -> Result<Self> {
        let socket = std::env::var_os(SOCKET_VARIABLE)
            .context("the variable of the engine's socket is not set: the engine has to start this program")?;
        Ok(Self { socket: BufReader::new(UnixStream::connect(socket)?), asked: 0 })
    }

    fn ask<M: Method>(&mut self, params: &M) -> Result<Result<M::Answer, RpcError>> {
        self.asked += 1;
        let mut line = serde_json::to_vec(&Request::new(self.asked, M::NAME, serde_json::to_value(params)?))?;
        line.push(b'\n');
        self.socket.get_mut().write_all(&line)?;
        let mut answer = String::new();
        self.socket.read_line(&mut answer)?;
        let response: Response =
            serde_json::from_str(&answer).with_context(|| format!("parsing the answer to {}", M::NAME))?;
        match response.error {
            Some(error) => Ok(Err(error)),
            None => {
                Ok(Ok(serde_json::from_value(response.result.context("the answer has neither result nor error")?)?))
            }
        }
    }

    fn keep(&mut self, name: &str, bytes: &[u8]) -> Result<Result<e2e_contract::Done, RpcError>> {
        self.ask(&Artifact { name: name.into(), content: Stream::from_bytes(bytes.to_vec()) })
    }
}

fn line<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let found = status.lines().find_map(|line| line.strip_prefix(name));
    found.map(str::trim).with_context(|| format!("/proc/self/status has no {name}"))
}

fn ids(status: &str, name: &str) -> Result<Vec<u32>> {
    line(status, name)?.split_whitespace().map(|word| Ok(word.parse()?)).collect()
}
