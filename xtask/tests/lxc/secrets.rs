//! Secrets of many shapes, written through every path of a run, and declared ones: what a record and a bundle hold of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use xtask::host::disk::tar_entries::read_entries;

use super::common::{Host, e2e, engine, project_with_template, record, said};

const MINI: &str = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n";

/// Deadline of a bundle with a stream of 17 MB, on a busy machine.
const BUNDLE_DEADLINE: Duration = Duration::from_secs(120);

/// Declared value: it has what every language quotes in another way.
const DECLARED: &str = "corr3ct \"horse\" & <b>/'stäple'\\9";

/// Scenario that says what it should not on every way there is.
const MAIN: &str = r#"
import base64, hashlib, json, os, pathlib, shlex, sys, time, urllib.parse
import e2e

def scenario(lab: e2e.Lab) -> None:
    token = lab.secret("API_TOKEN")
    lab.check_equal(hashlib.sha256(token.encode()).hexdigest(), lab.param("digest"), "the secret is given as it is")
    shapes = json.loads(pathlib.Path(os.environ["SHAPES"]).read_text())
    machine = lab.container("a")
    everything = "\n".join(shapes) + "\n"
    print(everything)
    machine.sh("cat > /dev/console", stdin=everything)
    print(machine.exec(["cat"], stdin=everything).stdout_text)
    artifacts = pathlib.Path(os.environ["ARTIFACTS"]) if "ARTIFACTS" in os.environ else lab.artifacts
    for number, shape in enumerate(shapes):
        lab.log(shape)
        machine.exec(["echo", shape], env={"SHAPE": shape})
        machine.exec(["echo"] + shape.split())
        with lab.step(shape):
            lab.check(True, shape, value=shape)
        if "/" not in shape and "\n" not in shape:
            lab.artifact(f"of {shape[:150]}.{number}.txt", "of a name")
            (artifacts / f"own {shape[:150]}.{number}.txt").write_text(shape)
        with lab.invoke("client", "write", {"said": shape}) as invocation:
            invocation.ok(shape)
    lab.artifact("all.txt", everything)
    lab.artifact("all.json", json.dumps({"shapes": shapes}))
    lab.artifact("all.bin", b"\0\1" + "\n".join(shapes[:1]).encode())
    # What was declared, in pieces, in other forms, and in files that the scenario itself writes.
    for piece in (token[:7], token[7:], "\n"):
        sys.stdout.write(piece)
        sys.stdout.flush()
        time.sleep(0.02)  # so that two reads see them
    print(base64.b64encode(f"me:{token}".encode()).decode(), urllib.parse.quote(token), json.dumps(token), token.encode().hex())
    machine.sh('echo "$TOKEN" > /dev/console', env={"TOKEN": token})
    machine.exec(["echo", "x" * (190 - len("echo ")), token])
    (artifacts / f"own {urllib.parse.quote(token, safe='')}").mkdir()
    (artifacts / "binary").write_bytes(b"\0" + token.encode() + b"\0")
    (artifacts / "text").write_text(token)
    lab.artifact("token.json", json.dumps({"token is": token}))
    # The same in what terminals and other languages make of it.
    forms = json.loads(pathlib.Path(os.environ["FORMS"]).read_text())
    told = "".join(f"<{form}>\n" for form in forms)
    for form in forms:
        lab.log(f"<{form}>")
        with lab.step(form):
            lab.check(True, form, value=form)
        with lab.invoke("client", "write", {"said": form}) as invocation:
            invocation.ok(form)
        if "\0" not in form:
            machine.exec(["echo", form], env={"FORM": form})
    print(told)
    machine.exec(["cat"], stdin=told)
    machine.sh("cat > /dev/console", stdin=told)
    lab.artifact("forms.txt", told)
    lab.artifact("forms.json", json.dumps(forms))
    (artifacts / "own-forms").write_text(told)
    large = machine.sh('yes "$TOKEN" | head -c 17000000', env={"TOKEN": token}, deadline=60).success()
    lab.check(large.stdout.startswith(token.encode() + b"\n") and len(large.stdout) == 17000000, "a scenario reads what it was given")
    raise RuntimeError(f"{token}\n{told}{everything}")

if __name__ == "__main__":
    e2e.run(scenario)
"#;

/// Shapes with the secret part of each, which no other has.
fn shapes() -> Vec<(String, String)> {
    let mut shapes = Vec::new();
    let mut add = |text: &str, secret: &str| {
        assert!(text.contains("{}"), "{text}");
        shapes.push((text.replace("{}", secret), secret.to_owned()));
    };
    let letters = |seed: u8, length: usize| -> String {
        let alphabet = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        (0..length)
            .map(|at| char::from(alphabet[(at * 17 + usize::from(seed) * 29 + at * at) % alphabet.len()]))
            .collect()
    };
    let digits = |seed: u8, length: usize| -> String {
        (0..length).map(|at| char::from(b"0123456789abcdef"[(at * 7 + usize::from(seed) * 5 + at * at) % 16])).collect()
    };
    add("postgres://me:{}@db:5432/orders", "pa55-of-address");
    add("{\"url\": \"https:\\/\\/me:{}@host\\/x\"}", "pa55-escaped");
    add("export AWS_SECRET_ACCESS_KEY={}", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYabcdefgh99");
    add("key id {}", "AKIAQYLPMN5HHHFPZAM2");
    add("{\"db_password\": \"{}\", \"user\": \"me\"}", "json-pa55-word");
    add("db.internal:5432:orders:me:{}", "pgpass-pa55");
    add("curl -s -u me:{} https://a", "curl-pa55");
    add("Authorization: Basic {}", "bWU6YmFzaWMtcGE1NQ==");
    add("Authorization: Bearer {}", "bearer-t0ken-abcdef");
    add("Cookie: {}", "sid=c00kie-of-request");
    add("Set-Cookie: {}; Path=/", "sid=c00kie-of-answer");
    add("npm {}", &format!("npm_{}", letters(1, 36)));
    add("//registry.example/:_authToken={}", "npm-auth-t0ken");
    add("pypi {}", &format!("pypi-AgEIcHlwaS5vcmc{}", letters(2, 60)));
    add("github {}", &format!("ghp_{}", letters(3, 36)));
    add("gitlab {}", &format!("glpat-{}", letters(4, 20)));
    add("stripe {}", &format!("sk_live_{}", letters(5, 24)));
    add("google {}", &format!("AIza{}", letters(6, 35)));
    add("slack {}", &format!("xoxb-123456789012-{}", letters(7, 24)));
    add("https://hooks.slack.com/services/{}", &format!("T0AB12/B0CD34/{}", letters(8, 24)));
    add("jwt {}", &format!("eyJ{}.eyJ{}.{}", letters(9, 20), letters(10, 20), letters(11, 20)));
    add("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", &format!("MIIEvQIBADANBg{}", letters(12, 50)));
    add("mysql -u root -p{} orders", "mysql-pa55");
    add("PGPASSWORD={} psql", "pg-env-pa55");
    add("machine db.internal login me password {}", "netrc-pa55");
    add("MYSQL_PWD={} mysqldump", "mysql-env-pa55");
    add("DJANGO_SECRET_KEY='{}'", "dj4ngo secret key");
    add("DEPLOY_TOKEN={}", "deploy-t0ken-1");
    add("    client-key-data: {}", "LS0tLS1CRUdJTiBSU0EgazhzLWtleQ==");
    add("sshpass -p {} ssh me@host", "sshpass-pa55");
    add("{\"auths\":{\"r.io\":{\"auth\":\"{}\"}}}", "bWU6ZG9ja2VyLXBhNTU=");
    add("ALTER USER me WITH PASSWORD '{}'", "sql-pa55");
    add("AccountName=a;AccountKey={};x=y", "YXp1cmUtYWNjb3VudC1rZXk=");
    add("GET /file?x=1&sig={}&y=2", "c2lnLW9mLXVybA");
    add("tool --api-key {} --verbose", "option-k3y");
    add("X-Api-Key: {}", "header-k3y-1");
    add("root:{}:19000:0", &format!("$6$saltsalt${}", letters(13, 60)));
    add("ldapsearch -x -D cn=me -w {} uid=a", "ldap-pa55");
    add("redis-cli -a {} PING", "redis-pa55");
    add("sendgrid {}", &format!("SG.{}.{}", letters(14, 22), letters(15, 43)));
    add("twilio {}", &format!("SK{}", digits(16, 32)));
    add("telegram bot{}", &format!("123456789:AA{}", letters(17, 33)));
    add("vault {}", &format!("hvs.{}", letters(18, 24)));
    add("ai {}", &format!("sk-proj-{}", letters(19, 40)));
    shapes
}

/// Declared value as terminals, other languages and encodings have it, with the part of each that must not be left.
fn forms() -> Vec<(String, String)> {
    let each = |by: &dyn Fn(char) -> String| DECLARED.chars().map(by).collect::<String>();
    let bytes = |by: &dyn Fn(u8) -> String, between: &str| DECLARED.bytes().map(by).collect::<Vec<_>>().join(between);
    let html = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;")
            .replace('>', "&gt;")
    };
    let json = |text: &str| serde_json::to_string(text).unwrap().replace('ä', "\\u00e4");
    let columns = |text: &str, columns: usize, end: &str| {
        let lines: Vec<&str> = text.as_bytes().chunks(columns).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join(end)
    };
    let latin: Vec<u8> = DECLARED.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let hexadecimal = |between: &str| bytes(&|byte| format!("{byte:02x}"), between);
    let percent = bytes(&|byte| format!("%{byte:02X}"), "");
    let letter = STANDARD.encode(format!("{}{DECLARED}{}", "x".repeat(48), "y".repeat(60)));
    let core = STANDARD.encode(DECLARED)[..DECLARED.len() / 3 * 4].to_owned();
    let mut forms: Vec<(String, String)> = vec![
        (columns(&letter, 76, "\n"), core.clone()),
        (columns(&letter, 64, "\r\n"), core.clone()),
        (json(&columns(&letter, 76, "\n")), core),
        (STANDARD.encode(format!("a{DECLARED}")), STANDARD.encode(format!("a{DECLARED}"))[4..32].to_owned()),
        (STANDARD.encode(format!("ab{DECLARED}")), STANDARD.encode(format!("ab{DECLARED}"))[4..32].to_owned()),
        (
            STANDARD.encode(format!("??>>{DECLARED}")).replace('/', "_").replace('+', "-"),
            STANDARD.encode(&DECLARED[2..])[..24].to_owned(),
        ),
        (STANDARD.encode(&latin), STANDARD.encode(&latin)[..40].to_owned()),
        (STANDARD.encode(json(DECLARED)), STANDARD.encode(json(DECLARED))[4..44].to_owned()),
    ];
    let texts = [
        each(&|c| format!("\u{1b}[1;31m{c}\u{1b}[0m")),
        each(&|c| format!("{c}\u{1b}]0;title\u{7}")),
        each(&|c| format!("{c}\0")),
        each(&|c| format!("\0{c}")),
        each(&|c| format!("{c}\u{8}")),
        each(&|c| format!("{c}\r")),
        each(&|c| format!("{c}\u{200b}")),
        each(&|c| format!("{c}\u{fe0f}\u{34f}\u{180e}\u{e0100}\u{115f}")),
        json(DECLARED),
        json(&json(DECLARED)),
        json(&each(&|c| format!("\u{1b}[1m{c}"))),
        each(&|c| format!("\\u{:04x}", u32::from(c))),
        format!("b'{}'", bytes(&|byte| format!("\\x{byte:02x}"), "")),
        format!("{DECLARED:?}"),
        DECLARED.as_bytes().escape_ascii().to_string(),
        DECLARED.replace('\'', "'\\''"),
        percent.clone(),
        percent.to_lowercase(),
        percent.replace('%', "%25"),
        html(DECLARED),
        html(&html(DECLARED)),
        each(&|c| format!("&#{};", u32::from(c))),
        each(&|c| format!("&#x{:x};", u32::from(c))),
        html(&each(&|c| format!("&#x{:X};", u32::from(c)))),
        hexadecimal(""),
        bytes(&|byte| format!("\\{byte:o}"), ""),
        each(&|c| format!("&#x{:08x};", u32::from(c))),
        latin.iter().map(|byte| format!("{byte:02x}")).collect(),
        hexadecimal("|"),
        hexadecimal("").to_uppercase(),
        hexadecimal(":"),
        hexadecimal("-"),
        hexadecimal(" "),
        columns(&hexadecimal(""), 60, "\n"),
    ];
    forms.extend(texts.map(|text| (text.clone(), text.trim_matches('"').to_owned())));
    forms
}

/// A text without all that a terminal or a wrapped encoding has between its letters.
fn bare(text: &str) -> String {
    static BETWEEN: LazyLock<Regex> = LazyLock::new(|| {
        let between =
            r"\x1b\[[0-9;]*[A-Za-z]|\x1b\][^\x07\x1b]*\x07|[\x00-\x20\x7f\p{DI}]|␀|␈|␍|\[U\+[0-9A-F]+\]|[:|-]";
        Regex::new(between).unwrap()
    });
    BETWEEN.replace_all(text, "").into_owned()
}

/// Forms of the declared value that stand in a file.
fn told(name: &str, content: &[u8], forms: &[(String, String)]) -> Vec<String> {
    let mut readings = readings(name, content);
    readings.push(html_decoded(&readings[0]));
    let readings: Vec<String> = readings.iter().map(|text| bare(text)).collect();
    let cores = forms.iter().map(|(_, core)| bare(core)).chain([bare(DECLARED)]);
    cores.filter(|core| readings.iter().any(|text| text.contains(core))).map(|core| format!("{name}: {core}")).collect()
}

/// Forms of a text in which a secret may stand: as it is, and what readers of HTML and JSON see.
fn readings(name: &str, content: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(content).into_owned();
    let mut readings = vec![html_decoded(&text)];
    let documents: Vec<Value> = if name.ends_with(".jsonl") {
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    } else {
        serde_json::from_str(&text).into_iter().collect()
    };
    for document in &documents {
        let mut strings = String::new();
        collect(document, &mut strings);
        readings.push(strings);
    }
    readings.push(text);
    readings
}

fn collect(value: &Value, strings: &mut String) {
    match value {
        Value::String(text) => writeln!(strings, "{text}").unwrap(),
        Value::Array(list) => list.iter().for_each(|item| collect(item, strings)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            writeln!(strings, "{key}").unwrap();
            collect(item, strings);
        }),
        _ => {}
    }
}

fn html_decoded(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.char_indices().take(10).find(|(_, c)| *c == ';').map(|(end, _)| end);
        let entity = end.map(|end| &rest[1..end]);
        let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let character = match entity {
            Some("amp") => Some('&'),
            Some("lt") => Some('<'),
            Some("gt") => Some('>'),
            Some("quot") => Some('"'),
            Some("apos") => Some('\''),
            Some(other) => other
                .strip_prefix("#x")
                .and_then(|digits| number(digits, 16))
                .or_else(|| other.strip_prefix('#').and_then(|digits| number(digits, 10))),
            None => None,
        };
        match (character, end) {
            (Some(character), Some(end)) => {
                decoded.push(character);
                rest = &rest[end + 1..];
            }
            _ => {
                decoded.push('&');
                rest = &rest[1..];
            }
        }
    }
    decoded + rest
}

/// Secrets that stand in a file, its name included.
fn found<'a>(name: &str, content: &[u8], secrets: &'a [String]) -> Vec<&'a String> {
    let readings = readings(name, content);
    secrets
        .iter()
        .filter(|secret| name.contains(*secret) || readings.iter().any(|text| text.contains(*secret)))
        .collect()
}

fn files(top: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = walkdir::WalkDir::new(top).into_iter().map(Result::unwrap).filter(|entry| entry.path() != top);
    entries
        .map(|entry| {
            let name = entry.path().strip_prefix(top).unwrap().display().to_string();
            let content = if entry.file_type().is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
            (name, content)
        })
        .collect()
}

fn packed(bundle: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let input = flate2::read::GzDecoder::new(std::fs::File::open(bundle).unwrap());
    let read = read_entries(input, &mut |entry, path| {
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(path.display().to_string(), content);
        Ok(())
    });
    read.unwrap();
    files
}

fn project() -> tempfile::TempDir {
    let project = project_with_template(MINI);
    let scenario = project.path().join("scenarios/smoke/tells");
    std::fs::remove_dir_all(project.path().join("scenarios/smoke")).unwrap();
    std::fs::create_dir_all(&scenario).unwrap();
    std::fs::write(scenario.join("main.py"), MAIN).unwrap();
    let digest: String = Sha256::digest(DECLARED).iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = format!(
        "description = \"It tells\"\ncommand = [\"python3\", \"main.py\"]\n[containers.a]\ntemplate = \"odd\"\n\
         [[cases]]\nname = \"all\"\ndigest = \"{digest}\"\n"
    );
    std::fs::write(scenario.join("scenario.toml"), manifest).unwrap();
    let e2e_toml = "name = \"e2e-selftest\"\ncontainers = [\"a\"]\n[secrets]\nvariables = [\"API_TOKEN\"]\n\
                    files = { KEY = \"key\" }\n";
    std::fs::write(project.path().join("e2e.toml"), e2e_toml).unwrap();
    std::fs::write(project.path().join("key"), "a-key-of-a-file\n").unwrap();
    project
}

#[test]
fn no_path_leads_a_secret_into_a_record_or_a_bundle() {
    let _host = Host::take();
    let project = project();
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let shapes = shapes();
    assert!(shapes.len() >= 40, "{}", shapes.len());
    let texts: Vec<&String> = shapes.iter().map(|(text, _)| text).collect();
    let shapes_file = outside.path().join("shapes.json");
    std::fs::write(&shapes_file, serde_json::to_vec(&texts).unwrap()).unwrap();
    let forms = forms();
    for form in &forms {
        assert!(!told("", form.0.as_bytes(), std::slice::from_ref(form)).is_empty(), "the test does not see {form:?}");
    }
    let forms_file = outside.path().join("forms.json");
    let texts: Vec<&String> = forms.iter().map(|(text, _)| text).collect();
    std::fs::write(&forms_file, serde_json::to_vec(&texts).unwrap()).unwrap();
    let files_of_test = [("SHAPES", &shapes_file), ("FORMS", &forms_file)];
    let output = e2e(project.path(), &[]).envs(files_of_test).env("API_TOKEN", DECLARED).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert!(said(&output).contains("RuntimeError"), "{}", said(&output));

    // What was declared has not come into the record, in whatever form.
    let quoted = serde_json::to_string(DECLARED).unwrap();
    let hexadecimal: String = DECLARED.bytes().map(|byte| format!("{byte:02x}")).collect();
    let declared: Vec<String> = [
        DECLARED,
        &quoted[1..quoted.len() - 1],
        &STANDARD.encode(format!("me:{DECLARED}"))[6..30],
        "corr3ct%20%22horse",
        &hexadecimal,
        "a-key-of-a-file",
    ]
    .map(str::to_owned)
    .to_vec();
    let run = project.path().join("target/e2e/latest").canonicalize().unwrap();
    let on_disk = files(&run);
    for (name, content) in &on_disk {
        assert!(found(name, content, &declared).is_empty(), "{name}: {:?}", found(name, content, &declared));
    }
    let mut kept: Vec<String> = on_disk.iter().flat_map(|(name, content)| told(name, content, &forms)).collect();
    kept.extend(told("terminal", said(&output).as_bytes(), &forms));
    assert!(kept.is_empty(), "{} are left:\n{}", kept.len(), kept.join("\n"));
    assert!(found("", said(&output).as_bytes(), &declared).is_empty(), "{}", said(&output));
    let log = String::from_utf8_lossy(&on_disk["smoke/tells/scenario.log"]).into_owned();
    assert!(log.contains("[redacted]\n"), "in pieces");
    assert!(on_disk["smoke/tells/artifacts/binary"].starts_with(b"\0****"), "of the same length");
    let has_name = |part: &str| on_disk.keys().any(|name| name.contains(part));
    assert!(has_name("artifacts/own [redacted]") && has_name("artifacts/stream-1-stdout"));

    // What only looks like a secret stays on this machine: so all paths do carry something.
    let secrets: Vec<String> = shapes.iter().map(|(_, secret)| secret.clone()).collect();
    let case = "smoke/tells";
    let top = ["events.jsonl", "e2e_test.log", "report.html"].map(str::to_owned).into_iter();
    let below = ["scenario.log", "containers/a/console.log", "artifacts/all.txt", "history.jsonl"];
    for file in top.chain(below.map(|name| format!("{case}/{name}"))) {
        let count = found("", &on_disk[&file], &secrets).len();
        assert!(count + 3 >= secrets.len(), "{file}: {count} of {}", secrets.len());
    }

    let bundle = outside.path().join("run.tar.gz");
    let root = project.path().display().to_string();
    let output = engine()
        .args(["--root", &root, "bundle", "--output", bundle.to_str().unwrap()])
        .env("API_TOKEN", DECLARED)
        .dir(project.path())
        .deadline(BUNDLE_DEADLINE)
        .output()
        .unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    assert!(said(&output).contains("left out project/key: it is a declared secret"), "{}", said(&output));
    let packed = packed(&bundle);
    let run_id = record(project.path())["run_id"].as_str().unwrap().to_owned();
    let mut kept = Vec::new();
    for (name, content) in &packed {
        kept.extend(found(name, content, &secrets).into_iter().map(|secret| format!("{name}: {secret}")));
        kept.extend(found(name, content, &declared).into_iter().map(|secret| format!("{name}: {secret}")));
        kept.extend(told(name, content, &forms));
    }
    assert!(kept.is_empty(), "{} are left:\n{}", kept.len(), kept.join("\n"));
    for name in ["report.html", "junit.xml", "summary.md", "trace.json", "run.json", "events.jsonl", "e2e_test.log"] {
        let content = &packed[&format!("project/target/e2e/{run_id}/{name}")];
        if name != "trace.json" && name != "summary.md" {
            assert!(String::from_utf8_lossy(content).contains("[redacted]"), "{name}");
        }
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 3, "nothing is left beside the bundle");
}

#[test]
fn a_secret_that_cannot_be_kept_is_refused_before_anything_runs() {
    let _host = Host::take();
    let project = project();
    for (value, expected) in
        [("12345", "the secret API_TOKEN has fewer than 6 characters"), ("", "NO_SUCH_SECRET is not set")]
    {
        let flags: &[&str] = if value.is_empty() { &["--secret", "NO_SUCH_SECRET"] } else { &[] };
        let output = e2e(project.path(), flags).env("API_TOKEN", value).output().unwrap();
        assert!(output.status == 2 && said(&output).contains(expected), "{}", said(&output));
        assert!(said(&output).contains("help: ") && !project.path().join("target/e2e").exists(), "{}", said(&output));
    }
}
