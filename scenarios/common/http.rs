//! HTTP requests from a machine of the lab.

use anyhow::anyhow;
use e2e::{Container, Result};

const GET: &str = "import json, sys, urllib.request
print(json.dumps([urllib.request.urlopen(url, timeout=10).read().decode() for url in sys.argv[1:]]))";

/// Returns the body of each URL, got by HTTP GET on this container, which needs Python.
///
/// # Errors
/// When a URL is answered with an error, not within 10 s, or with something that is not text.
pub fn get<const N: usize>(from: &Container, urls: &[impl AsRef<str>; N]) -> Result<[String; N]> {
    let urls = urls.each_ref().map(AsRef::as_ref);
    let got = from.exec(["python3", "-c", GET].into_iter().chain(urls))?.success()?;
    let pages: Vec<String> = serde_json::from_slice(got.stdout())?;
    pages.try_into().map_err(|pages| anyhow!("the URLs {urls:?} did not give one page each: {pages:?}"))
}
