//! Command lines of the guides that are run, in an order that makes a story, and what each is to say.

/// A line of a guide that is run.
pub struct DocumentedCommand {
    pub line: &'static str,
    /// Pieces of it, and what stands in their place here. `{RUN}` is the name of the first run.
    pub instead: &'static [(&'static str, &'static str)],
    /// Exit code.
    pub status: i32,
    /// Part of what it says.
    pub says: &'static str,
    /// Step that the tutorial takes before it.
    pub before: Before,
}

/// Step of somebody who follows the tutorial.
#[derive(Clone, Copy)]
pub enum Before {
    Nothing,
    /// The scenario's program becomes the block of Python with this number.
    Program(usize),
    /// The scenario's manifest gets the block of TOML.
    Chaos,
    /// Line for the shell.
    Shell(&'static str),
}

pub const fn command(line: &'static str, says: &'static str) -> DocumentedCommand {
    DocumentedCommand { line, instead: &[], status: 0, says, before: Before::Nothing }
}

impl DocumentedCommand {
    pub const fn fails(self, status: i32) -> Self {
        Self { status, ..self }
    }

    pub const fn after(self, before: Before) -> Self {
        Self { before, ..self }
    }

    pub const fn instead(self, instead: &'static [(&'static str, &'static str)]) -> Self {
        Self { instead, ..self }
    }
}

/// Page with the first scenario, whose programs and lines are used as they stand there.
pub const TUTORIAL: &str = "docs/first-scenario.md";

/// The fenced blocks of this language in a text, each with a line break at its end.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("\n```{language}\n");
    let begins = text.split(&opening).skip(1);
    begins.map(|rest| format!("{}\n", rest.split("\n```").next().unwrap_or_default())).collect()
}

/// Line with which the tutorial repairs its scenario.
pub const REPAIR: &str = "sed -i s/160_000/150_000/ scenarios/data_pipeline/first_query/main.py";

/// Commands in the order in which they are run.
pub const STORY: &[DocumentedCommand] = &[
    command("fault list", "net.delay delay_ms="),
    command(
        "new data_pipeline/first_query --language python --container app,db",
        "written: scenarios/data_pipeline/first_query/",
    ),
    command("e2e first_query", "PASSED  1 passed"),
    command("e2e first_query", "version = 150020").fails(1).after(Before::Program(0)),
    command("logs latest db --level warning", ""),
    command("logs --digest", "data_pipeline/first_query"),
    command("up first_query --ttl 2h", "automatically in 2h"),
    command("down", "is gone"),
    command("e2e first_query", "PASSED  1 passed").after(Before::Shell(REPAIR)),
    command("e2e first_query", "fault net.delay").after(Before::Program(1)),
    command("e2e first_query --chaos --seed 7", "PASSED  1 passed").after(Before::Chaos),
    command("e2e data_ingestion", "PASSED  2 passed"),
    command("e2e data_ingestion --progress plain", "data_pipeline/data_ingestion:small"),
    command("e2e data_ingestion --perf", "PASSED  2 passed"),
    command("logs", "refused: 3 rows"),
    command("logs latest db --level warning --since 30s", ""),
    command("logs --case data_ingestion --grep refused", "refused: 3 rows"),
    command("e2e --chaos", "PASSED"),
    command("e2e batch_processing --chaos --seed 7", "PASSED  1 passed"),
    command("e2e batch_processing --chaos-replay latest", "PASSED  1 passed"),
    command("fault try net.delay delay_ms=200", "net.delay delay_ms=200"),
    command("fault try net.delay delay_ms=200 jitter_ms=50", "net.delay delay_ms=200 jitter_ms=50"),
    command("up app db --ttl 2h", "automatically in 2h"),
    command("ps", "db"),
    command("exec db --user postgres -- psql -l", "user\n").instead(&[("postgres", "user"), ("psql -l", "id -un")]),
    command("cp app:/etc/nginx .", "").instead(&[("/etc/nginx", "/etc")]),
    command("cp ./site.conf app:/etc/nginx/site.conf --force", "")
        .instead(&[("./site.conf", "./etc/inittab"), ("/etc/nginx/site.conf", "/etc/inittab")]),
    command("pcap db --for 10s", "db.pcap").instead(&[("10s", "1s")]),
    command("fault inject net.delay delay_ms=200 --on db", "net.delay"),
    command("down", "is gone"),
    command("e2e data_ingestion --keep-containers --ttl 2h", "PASSED  2 passed"),
    command("clean", ""),
    command("report --open", "report.html"),
    command("report --compare 20261122-194813-4422 latest", "html").instead(&[("20261122-194813-4422", "{RUN}")]),
    command("runs", "{RUN}"),
    command("runs show latest", "PASSED"),
    command("runs durations latest", "2 cases recorded"),
    command("config show", "keep_containers"),
    command("runs prune --keep 20 --older 14d", ""),
    command("e2e --rerun-failed", "there is nothing to repeat"),
    command("bundle latest", ".tar.gz"),
    command("e2e --from-bundle target/e2e/bundles/RUN.tar.gz", "PASSED  2 passed")
        .instead(&[("RUN.tar.gz", "{LATEST}.tar.gz data_ingestion")]),
    command("e2e --root ../other-project", "PASSED  2 passed")
        .instead(&[("../other-project", "{PROJECT} data_ingestion")]),
    command("image build --locked", ""),
    command("judge-check xtask/tests/data/noise/raw.csv --random 60", "duet")
        .instead(&[("xtask/tests", "{TESTS}"), ("--random 60", "--random 0")]),
];
