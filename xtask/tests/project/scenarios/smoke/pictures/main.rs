//! Scenario of screenshots: of pages that a container serves, of URLs that are no page, and of a page that never ends.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::{Container, Lab, Likeness, Picture, Port, RequestError, Result, Tolerance, check};
use nix::unistd::geteuid;

/// Folder that only root may read, which `xtask/tests/lxc/as_user.rs` makes beside the project.
const ROOTS: &str = "../../../../roots/folder";

/// URL that is never answered.
const SILENT: &str = "http://app/cgi-bin/silent";

/// URL that redirects to a page that does not exist.
const REDIRECT: &str = "http://app/cgi-bin/redirect";

/// Deadline that is longer than any screenshot takes without a fault.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    e2e::run(scenario)
}

fn scenario(lab: &Lab) -> Result {
    let app = lab.container("app")?;
    serve(lab, &app)?;
    match lab.case() {
        "taken" => {
            lab.step("pictures show pages", || pages(lab))?;
            lab.step("what is no page", || no_pages(lab))
        }
        "kept" => kept(lab),
        "looks" => looks(lab, &app),
        "skipped" => skipped(lab),
        "hangs" => {
            let picture = lab.screenshot("hangs", "http://app/hangs.html")?;
            bail!("the screenshot of a page that never ends is {picture:?}")
        }
        other => bail!("there is no case {other}"),
    }
}

fn serve(lab: &Lab, app: &Container) -> Result {
    for name in ["status.html", "style.css"] {
        app.put(lab.fixture(name), format!("/tmp/pages/{name}"))?;
    }
    app.write("/tmp/pages/blank.html", "<!doctype html><link rel=icon href='data:,'>")?;
    app.write("/tmp/pages/hangs.html", format!("<!doctype html><img src='{SILENT}'>"))?;
    app.write("/tmp/pages/cgi-bin/silent", "#!/bin/sh\nexec sleep 1000\n")?;
    let redirect = "#!/bin/sh\nprintf 'Status: 302 Found\\r\\nLocation: http://nobody/\\r\\n\\r\\n'\n";
    app.write("/tmp/pages/cgi-bin/redirect", redirect)?;
    app.sh("chmod 755 /tmp/pages/cgi-bin/*")?.success()?;
    app.exec(["httpd", "-p", "80", "-h", "/tmp/pages"])?.success()?;
    app.wait_for(Port(80))?;
    Ok(())
}

fn pages(lab: &Lab) -> Result {
    let status = taken(lab, "status", "http://app/status.html")?;
    let same = status == taken(lab, "status_again", "http://app/status.html")?;
    check!(same, "the same page gives the same picture");
    let address = lab.container("app")?.address();
    let same = status == taken(lab, "status_by_address", &format!("http://{address}:80/status.html#top"))?;
    check!(same, "a page is the same by its address");
    let blank = status == taken(lab, "blank", "http://app/blank.html")?;
    check!(!blank, "what is on a page can be seen");
    Ok(())
}

/// Takes a screenshot, checks the file, and returns its bytes.
fn taken(lab: &Lab, name: &str, url: &str) -> Result<Vec<u8>> {
    let Picture::Taken { path, size_bytes } = lab.screenshot(name, url)? else {
        bail!("the screenshot {name} was skipped")
    };
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
        ("x", "http://app/missing.html", "status is 404"),
        ("x", "http://app:81/", "refused"),
        ("x", REDIRECT, "ERR_NAME_NOT_RESOLVED"),
        ("x", "http://nobody/", "no container \"nobody\" in this lab: it has app"),
        ("x", "https://app/status.html", "http://CONTAINER/PATH"),
        ("x", "file:///etc/passwd", "http://CONTAINER/PATH"),
        ("../x", "http://app/status.html", "no plain file name"),
    ] {
        let error = refusal(lab, name, url, PATIENCE)?;
        check!(error.to_string().contains(reason), "{url} as {name}: {error}");
        check!(!error.is_deadline());
    }
    // The engine asks for the page first, so the browser is not there yet; and it is there, and waits for an image.
    for (url, seconds) in [(SILENT, 1), ("http://app/hangs.html", 5)] {
        let error = refusal(lab, "x", url, Duration::from_secs(seconds))?;
        check!(error.is_deadline() && error.to_string().contains("timed out after "), "{url}: {error}");
    }
    check!(!screenshots(lab).join("x.png").exists());
    taken(lab, "after_all_that", "http://app/blank.html")?;
    Ok(())
}

fn refusal(lab: &Lab, name: &str, url: &str, deadline: Duration) -> Result<RequestError> {
    match lab.screenshot_within(name, url, deadline) {
        Ok(picture) => bail!("the screenshot {name} of {url} is {picture:?} and no error"),
        Err(error) => {
            Ok(error.downcast_ref::<RequestError>().context("the error is not an answer of the engine")?.clone())
        }
    }
}

/// Checks that the engine writes only with the scenario's rights in a folder where the scenario may make any link.
fn kept(lab: &Lab) -> Result {
    taken(lab, "blank", "http://app/blank.html")?;
    if geteuid().is_root() {
        return Ok(()); // there is nothing that root may not write
    }
    let screenshots = screenshots(lab);
    let aside = screenshots.with_file_name("aside");
    std::fs::rename(&screenshots, &aside)?;
    symlink(std::fs::canonicalize(ROOTS)?, &screenshots)?;
    check!(
        refusal(lab, "planted", "http://app/blank.html", PATIENCE)?
            .to_string()
            .contains("the path has a symbolic link")
    );
    std::fs::remove_file(&screenshots)?;
    std::fs::rename(&aside, &screenshots)?;
    Ok(())
}

/// Compares a screenshot with an earlier one; the last comparison fails.
fn looks(lab: &Lab, app: &Container) -> Result {
    let url = "http://app/status.html";
    taken(lab, "before", url)?;
    let before = screenshots(lab).join("before.png");
    match lab.screenshot_like("same", url, &before, Tolerance::NONE)? {
        Likeness::Compared { difference: None, pixels_off: 0, pixels, .. } => check!(pixels == 1024 * 768),
        other => bail!("the comparison of a page with its own screenshot is {other:?}"),
    }
    let missing = lab.screenshot_like("same", url, lab.fixture("none.png"), Tolerance::NONE);
    let Err(missing) = missing else { bail!("a missing expected picture was accepted") };
    check!(missing.to_string().contains("to accept the new image: cp "), "{missing}");
    let page = lab.fixture("status.html");
    let no_png = lab.screenshot_like("same", url, page, Tolerance::NONE);
    let Err(no_png) = no_png else { bail!("an expected picture that is no PNG was accepted") };
    check!(no_png.to_string().contains("it is no PNG"), "{no_png}");
    app.write("/tmp/pages/status.html", "<!doctype html><body style='background: #3050a0'>")?;
    lab.screenshot_like("other", url, &before, Tolerance::default())?;
    bail!("a blue page was accepted as looking like the earlier one")
}

/// Checks a host without a browser: the screenshot is skipped with the reason, and a page that does not exist is still an error.
fn skipped(lab: &Lab) -> Result {
    match lab.screenshot("status", "http://app/status.html")? {
        Picture::Taken { path, .. } => {
            bail!("this host has a browser and should have none: it made {}", path.display())
        }
        Picture::Skipped { reason } => check!(reason.contains("cargo xtask setup --optional")),
    }
    check!(refusal(lab, "x", "http://app/missing.html", PATIENCE)?.to_string().contains("status is 404"));
    check!(!screenshots(lab).exists(), "there is no empty folder");
    Ok(())
}

fn screenshots(lab: &Lab) -> PathBuf {
    let artifacts: &Path = lab.artifacts();
    artifacts.with_file_name("screenshots")
}
