//! Pictures of pages that a container serves, of what is no page, and of one that never ends.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::{Container, Lab, Picture, Port, RequestError, Result, check};
use nix::unistd::geteuid;

/// Root's own folder, which `xtask/tests/lxc/as_user.rs` puts beside the project.
const ROOTS: &str = "../../../../roots/folder";

/// Connections are taken, and nothing is ever said.
const SILENT: u16 = 82;

/// Any page of this port leads to one that is not there.
const REDIRECT: u16 = 83;

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let app = lab.container("app")?;
    serve(lab, &app)?;
    match lab.case() {
        "taken" => {
            lab.step("pictures show pages", || pages(lab))?;
            lab.step("what is no page", || no_pages(lab))?;
            lab.step("a picture that cannot be kept", || not_kept(lab))
        }
        "skipped" => skipped(lab),
        "hangs" => Ok(drop(lab.screenshot("hangs", "http://app/hangs.html")?)),
        other => bail!("there is no case {other}"),
    }
}

fn serve(lab: &Lab, app: &Container) -> Result {
    for name in ["status.html", "style.css"] {
        app.put(lab.fixture(name), format!("/tmp/pages/{name}"))?;
    }
    app.write("/tmp/pages/blank.html", "<!doctype html><link rel=icon href='data:,'>")?;
    app.write("/tmp/pages/hangs.html", format!("<!doctype html><img src='http://app:{SILENT}/'>"))?;
    app.write("/tmp/silent", "#!/bin/sh\nexec sleep 1000\n")?;
    app.write("/tmp/redirect", "#!/bin/sh\nprintf 'HTTP/1.0 302 Found\\r\\nLocation: http://nobody/\\r\\n\\r\\n'\n")?;
    app.exec(["httpd", "-p", "80", "-h", "/tmp/pages"])?.success()?;
    for (port, script) in [(SILENT, "/tmp/silent"), (REDIRECT, "/tmp/redirect")] {
        app.sh(format!("nc -lk -p {port} -e /bin/sh {script} >/dev/null 2>&1 &"))?.success()?;
    }
    for port in [80, SILENT, REDIRECT] {
        app.wait_for(Port(port))?;
    }
    Ok(())
}

fn pages(lab: &Lab) -> Result {
    let status = taken(lab, "status", "http://app/status.html")?;
    check!(status == taken(lab, "status_again", "http://app/status.html")?, "the same page gives the same picture");
    let address = lab.container("app")?.address();
    check!(status == taken(lab, "status_by_address", &format!("http://{address}:80/status.html#top"))?);
    let blank = taken(lab, "blank", "http://app/blank.html")?;
    check!(status != blank, "the page can be seen");
    Ok(())
}

/// The bytes of a picture that was taken, after a look at the file.
fn taken(lab: &Lab, name: &str, url: &str) -> Result<Vec<u8>> {
    let Picture::Taken { path, size_bytes } = lab.screenshot(name, url)? else { bail!("{name} was skipped") };
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    check!(path.ends_with(format!("screenshots/{name}.png")), "{}", path.display());
    check!(bytes.len() as u64 == size_bytes);
    check!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{}", path.display());
    check!(bytes[16..24] == [0, 0, 4, 0, 0, 0, 3, 0], "1024 x 768 pixels");
    check!(path.metadata()?.uid() == geteuid().as_raw(), "it belongs to the scenario's user");
    Ok(bytes)
}

fn no_pages(lab: &Lab) -> Result {
    for (name, url, reason) in [
        ("x", "http://app/missing.html".to_owned(), "status is 404"),
        ("x", "http://app:81/".into(), "refused"),
        ("x", format!("http://app:{REDIRECT}/"), "ERR_NAME_NOT_RESOLVED"),
        ("x", "http://nobody/".into(), "no container \"nobody\", there are app"),
        ("x", "https://app/status.html".into(), "http://CONTAINER/PATH"),
        ("x", "file:///etc/passwd".into(), "http://CONTAINER/PATH"),
        ("../x", "http://app/status.html".into(), "no plain file name"),
    ] {
        let error = refusal(lab, name, &url)?;
        check!(error.to_string().contains(reason), "{url} as {name}");
        check!(!error.is_deadline());
    }
    for url in [format!("http://app:{SILENT}/"), "http://app/hangs.html".to_owned()] {
        let error = refusal(lab, "x", &url)?;
        check!(error.is_deadline(), "{url}: {error}");
    }
    check!(!screenshots(lab).join("x.png").exists());
    taken(lab, "after_all_that", "http://app/blank.html")?;
    Ok(())
}

fn refusal(lab: &Lab, name: &str, url: &str) -> Result<RequestError> {
    match lab.screenshot_within(name, url, Duration::from_secs(6)) {
        Ok(picture) => bail!("of {url} as {name} there is {picture:?}"),
        Err(error) => Ok(error.downcast_ref::<RequestError>().context("no answer of the engine's")?.clone()),
    }
}

/// Where the scenario may plant what it likes, the engine writes with the scenario's rights.
fn not_kept(lab: &Lab) -> Result {
    if geteuid().is_root() {
        return Ok(());
    }
    let screenshots = screenshots(lab);
    let aside = screenshots.with_file_name("aside");
    std::fs::rename(&screenshots, &aside)?;
    symlink(std::fs::canonicalize(ROOTS)?, &screenshots)?;
    check!(refusal(lab, "planted", "http://app/blank.html")?.to_string().contains("Permission denied"));
    std::fs::remove_file(&screenshots)?;
    std::fs::rename(&aside, &screenshots)?;
    Ok(())
}

/// The host has no browser: the engine says so, and a page that is not there is an error all the same.
fn skipped(lab: &Lab) -> Result {
    match lab.screenshot("status", "http://app/status.html")? {
        Picture::Taken { path, .. } => bail!("there is a browser: {}", path.display()),
        Picture::Skipped { reason } => check!(reason.contains("cargo xtask setup --optional")),
    }
    check!(refusal(lab, "x", "http://app/missing.html")?.to_string().contains("status is 404"));
    check!(!screenshots(lab).exists(), "there is no empty folder");
    Ok(())
}

fn screenshots(lab: &Lab) -> PathBuf {
    let artifacts: &Path = lab.artifacts();
    artifacts.with_file_name("screenshots")
}
