//! Content of the reference page `docs/mutants.md`.

use super::document::{Missing, Others, Page, Section};
use crate::manifest::{Mutant, Project};

const BEGINNING: &str = r#"
A suite that passes says that the product works, or that the suite does not look. Only a product that does not work tells the two
apart. A mutant is such a product: the same machines, with one thing broken in one of them on purpose. `cargo xtask mutants` runs
the scenario that has to notice on each, and says which mutants it noticed.

```sh
cargo xtask mutants                        # all of them
cargo xtask mutants half_upload            # one
cargo xtask mutants --sample 10 --seed 7   # ten of them, the same each time
cargo xtask mutants --list                 # what there is; nothing runs
cargo xtask mutants --empty 40 --seed 7    # 40 functions of the product, each emptied
```

## How it works

A mutant is a file `scenarios/mutants/NAME.toml`; `mutants` is no category of scenarios. It names a template and what changes on
its machines. The engine makes a thin layer of that, which lies on the template's own layer: nothing is built anew, and a mutant is
ready within seconds. All other machines, and the template, stay what they are. `cargo xtask image prune` removes these layers.

First, all the scenarios that some mutant needs run on the product as it is. If one fails, no mutant is tried: a red suite says
nothing. Then each mutant has a run of its own, below the first one's folder: `target/e2e/RUN/mutants/NAME/`, with its events, logs
and reports. The table is printed, and is in `target/e2e/RUN/mutants.json`, which `--format json` prints: [mutants-json.md](mutants-json.md).

| verdict | meaning |
|---|---|
| killed | the check that the file names failed, and its message matches `says` |
| killed unexplained | the scenario failed otherwise: another check, other words, an error, a crash, a time-out |
| survived | the broken code ran, and every case passed |
| misread | nothing was tested: an infrastructure error, a layer that does not build, or the only reaction is a known defect's mark |
| not reached | the broken code did not run |
| equivalent | no check can notice it, by the reason in its file; it is not run, and does not count |

Only *killed* counts. A time-out or a crash is no explanation: whoever meets the same failure in the product would have to find its
cause alone. The exit code is 0 if every mutant was killed or is equivalent, 1 if one was not or a scenario failed on the product
as it is, 3 after an infrastructure error of that first run, 5 after an interrupt.

## A mutant of a Python product

`[[python]]` names a function and the code that replaces it:

```toml
[[python]]
function = 'shop.files:Store.upload'
becomes = '''
def broken(original, self, path, *args):
    with open(path, 'rb') as file:
        half = file.read()[: os.path.getsize(path) // 2]
    return original(self, half, *args)
'''
```

`broken` gets the original function and all arguments. Imports stand in the code too. The function is replaced right after its module
has run, before any other module can import it. The engine does this with a `sitecustomize.py` in the folder that `[pip]` installs
into, which Python imports by itself at its start; a `sitecustomize` that was there before still runs. The build of the layer fails
if the function is not there. Python with `-I`, `-E` or `-S`, and `sudo`, which clears the environment, do not see that folder: then the
mutant is *not reached*. A module that runs as a program (`python -m`) is not changed.

## Functions emptied at random

Mutants that somebody wrote break what somebody thought of. `--empty N` takes functions that nobody chose. All scenarios run on the
product as it is, with [coverage](coverage.md): `[coverage]` in e2e.toml names the package. N functions are drawn among those that drivers
call, and each becomes a mutant that returns at once: an empty value of the type that it was seen to return (`""`, `0`, `False`, `[]`,
`{}`, `()`, `set()`, `b""`, `0.0`), otherwise None. A generator yields nothing, a coroutine returns at once, and what decorates a function
stays. Functions that do nothing already are left out, and counted.

The cases whose drivers call the function run, the quickest first, until one fails. Nobody said which check has to notice, so every
failure of the product kills such a mutant; the other verdicts mean the same as above. The table names each `empty:MODULE:FUNCTION`, and the
last line has the share that was killed. The exit code is 0 if all were. One of them alone, after a survivor's scenario was mended:

```sh
cargo xtask mutants empty:mancer.domain.model.command_result:CommandResult.is_success
```

The line that replaces the body is compiled with the rest of the module when the layer is built. A module that runs as a program
(`python -m`) has its own body: *not reached*.

## A mutant of any other product

`[[files]]` and `run` say what changes, as in [template.toml](templates.md). A command that edits one word of a file has to fail where
there is nothing to edit, and the code that it breaks has to leave a mark, a line in `/e2e-mutant/reached`, which every user of the
machine may write to:

```toml
run = ['''
sed -i 's|incr visits|incrby visits 2|; 2i echo visits >> /e2e-mutant/reached' /usr/local/bin/visits
grep -q 'incrby visits 2' /usr/local/bin/visits
''']
```

No line of the product is copied into the repository, so the mutant goes with the product's next version, or says that it does
not. `[[python]]` leaves the mark by itself.

## What a survivor means

The scenario runs the broken code and looks at something else. Read its run: `cargo xtask report target/e2e/RUN/mutants/NAME --open`.

- No check looks at the effect. Add one, which asks the machine itself: the file that should be there, the rows, the process.
- A check looks, and the broken value is one that it accepts. Compare with the exact value.
- The effect cannot be seen by anybody. Then the mutant is `equivalent`, with the reason.

*Killed unexplained* means that a check is missing too: the one that would have named the cause. *Not reached* says that no scenario
uses that part of the product at all.
"#;

const EXAMPLE: &str = r#"
breaks = "an upload sends half of the file, and says that it is done"
on = "app"
says = 'bytes instead of'
run = ["grep -q upload /opt/python/shop/files.py"]

[noticed_by]
scenario = "orders:small"
check = "the file on db is the one that was sent"

[[python]]
function = "shop.files:Store.upload"
becomes = '''
def broken(original, self, content, *args):
    return original(self, content[: len(content) // 2], *args)
'''

[[files]]
source = "half.conf"
target = "/etc/shop/half.conf"
mode = "0644"
owner = "root:root"

[[files]]
program = "busybox"
target = "/usr/local/bin/busybox"
"#;

const EQUIVALENT: &str = r#"
breaks = "the log has one digit less of each time"
on = "app"
run = ["sed -i s/%.6f/%.5f/ /opt/python/shop/log.py"]
equivalent = "nobody is promised how many digits there are"
"#;

const SECTIONS: &[Section] = &[
    Section { heading: "The file", ..TABLE },
    Section { heading: "[noticed_by]", place: &["noticed_by"], rust_type: "NoticeTable", ..TABLE },
    Section { heading: "[[python]]", place: &["python"], rust_type: "PythonTable", ..TABLE },
    Section {
        heading: "[[files]]",
        about: "A folder is copied with all that is in it. Each has a `source` or a `program`.",
        place: &["files"],
        source: include_str!("../template.rs"),
        rust_type: "FileTable",
        ..TABLE
    },
];

const TABLE: Section = Section {
    heading: "",
    about: "",
    place: &[],
    source: include_str!("../mutant.rs"),
    rust_type: "File",
    keys: None,
    missing: Missing::ByKey,
    others: Others::Refused,
};

/// Parses a mutant in a project that has all that the examples name.
fn read(text: &str) -> Result<Vec<Mutant>, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("e2e.toml", "name = 'x'"),
        ("containers/app/requirements.txt", ""),
        (
            "containers/app/template.toml",
            "from = 'scratch'\ninit = ['/init']\n[pip]\nrequirements = 'requirements.txt'\ntarget = '/opt/python'\npython = '3.11'",
        ),
        ("scenarios/shop/orders/scenario.toml", "description = 'x'\n[containers.app]\n[[cases]]\nname = 'small'"),
        ("scenarios/mutants/half.conf", ""),
        ("scenarios/mutants/half.toml", text),
    ] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let project = Project::read(folder.path()).map_err(|error| error.to_string())?;
    Mutant::read_all(&project).map_err(|error| error.to_string())
}

#[test]
fn the_page_is_what_the_parser_reads() {
    let page = Page {
        path: "docs/mutants.md",
        title: "Mutants: the product broken on purpose",
        beginning: BEGINNING.trim_ascii_start(),
        examples: &[("All that can be said:", EXAMPLE), ("One that nobody can notice:", EQUIVALENT)],
        sections: SECTIONS,
        words: vec![("RunStep", "lines and lists of text".into())],
        defaults: Vec::new(),
        parse: |text| read(text).map(drop),
    };
    page.hold();
}
