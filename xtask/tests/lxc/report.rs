//! The page of a run in a real browser: what failed is read from it, its log filtered, its timeline zoomed.

use std::fs;
use std::path::{Path, PathBuf};

use super::browser::Page;
use super::common::{Host, e2e, engine, said, selftest};

/// Makes the page of a project's run by the verb, and gives its path.
fn report(project: &Path, args: &[&str]) -> PathBuf {
    let root = project.display().to_string();
    let output = engine().args(["--root", &root, "report"]).args(args).run().unwrap();
    PathBuf::from(output.text().trim())
}

#[test]
fn a_failed_run_is_explained_by_its_page() {
    let project = selftest();
    {
        let _host = Host::take();
        let run = ["chaos:does_not_hold", "--chaos=node.kill", "--seed", "5"];
        let output = e2e(&project, &run).output().unwrap();
        assert_eq!(output.status, 1, "{}", said(&output));
    }
    let mut page = Page::start();
    page.open(&report(&project, &[]));
    assert_eq!(page.text("h1"), "1 of 1 case failed");
    assert_eq!(page.text(".failure .what"), "what b serves is its page");
    let answers = page.text(".failure .answers");
    for part in ["scenarios/smoke/chaos/main.rs:", "cargo xtask e2e smoke/chaos:does_not_hold --root", "--chaos-replay"]
    {
        assert!(answers.contains(part), "{part}: {answers}");
    }
    // What fails at the first look may have failed before the first fault took effect.
    assert_eq!(page.value("document.body.textContent.includes('node.kill')"), true);
    assert!(page.text("#environment").contains("chaos:does_not_hold --chaos=node.kill --seed 5"));

    page.value("document.querySelector('details.log').open = true");
    page.wait_until("document.querySelectorAll('.log-row').length > 0");
    // What is said before a container runs mostly has no time of its own, and comes before all that has one.
    page.value("document.querySelector('.log-row').click()");
    assert_eq!(page.value("document.querySelector('.cursor').hidden"), false, "the first line leads to a time");
    page.value("document.querySelector('.cursor').hidden = true");
    let all = page.value("document.querySelector('.log-tools output').textContent");
    page.value("const box = document.querySelector('[name=words]'); box.value = 'b'; box.dispatchEvent(new Event('input', { bubbles: true }))");
    page.wait_until(&format!("document.querySelector('.log-tools output').textContent !== {all}"));
    let every = "[...document.querySelectorAll('.log-row .line')].length > 0 && [...document.querySelectorAll('.log-row')]\
                 .every((row) => row.textContent.toLowerCase().includes('b'))";
    assert_eq!(page.value(every), true);
    page.value("document.querySelector('.log-row').click()");
    assert_eq!(page.value("document.querySelector('.cursor').hidden"), false, "a line leads to its time");

    page.value("document.querySelector('[data-do=in]').click(); document.querySelector('[data-do=in]').click()");
    assert_eq!(page.value("document.querySelector('.timeline').dataset.zoom"), "4.00");
    let wide = "document.querySelector('.tl-inner').clientWidth > 3 * document.querySelector('.tl-scroll').clientWidth";
    assert_eq!(page.value(wide), true);
    page.value("document.querySelector('.tl-marks i.failed').click()");
    assert_eq!(
        page.value("document.querySelectorAll('.log-row[aria-selected=true]').length"),
        1,
        "a mark leads to the log"
    );

    for (size, colors) in [((1280, 900), "light"), ((1280, 900), "dark"), ((390, 844), "light")] {
        assert!(page.picture(size, colors).starts_with(b"\x89PNG"), "{size:?} {colors}");
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(page.value(overflow), 0, "the page itself never scrolls sideways: {size:?}");
    }
    assert_eq!(page.complaints(), Vec::<String>::new());
    drop(page);

    let both = report(&project, &["--compare", "latest", "latest"]);
    assert!(fs::read_to_string(both).unwrap().contains("Machine, layers and packages are the same in both records."));
}
