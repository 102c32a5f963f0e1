//! `[pages]` of a `scenario.toml`: web pages of which screenshots are taken after a failure.

use std::collections::BTreeMap;

use toml::Spanned;

use super::parse::{Source, is_name, nearest};
use crate::error::Error;

/// A page that a container serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebPage {
    /// Name of the page, which is part of the names of its screenshots.
    pub name: String,
    /// URL of the page, such as `http://app/status`.
    pub url: String,
}

/// Checks that the pages of a scenario have valid names, and URLs of its containers.
pub(super) fn check(
    pages: BTreeMap<String, Spanned<String>>,
    source: &Source,
    containers: &[&str],
) -> Result<Vec<WebPage>, Error> {
    let one = |(name, url): (String, Spanned<String>)| {
        if !is_name(&name) {
            let message = format!("{name:?}: a page is named with a-z, 0-9, '-' and '_': it is part of a file's name");
            return Err(source.error_at(&url, message));
        }
        let (host, _, _) = split_url(url.get_ref()).map_err(|problem| source.error_at(&url, problem))?;
        if !containers.contains(&host) {
            let hint = nearest(host, containers.iter().copied()).map_or_else(
                || format!("the scenario has {}", containers.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            return Err(source.error_at(&url, format!("there is no container {host:?}: {hint}")));
        }
        Ok(WebPage { name, url: url.into_inner() })
    };
    pages.into_iter().map(one).collect()
}

/// Splits an `http` URL into host, port, and path with query.
///
/// # Errors
/// The problem with the URL, and how to write it.
pub fn split_url(url: &str) -> Result<(&str, u16, String), &'static str> {
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the URL has blanks or characters outside ASCII: write them percent-encoded, such as %20");
    }
    let rest = url.strip_prefix("http://").ok_or("the URL is not of the form http://CONTAINER/PATH")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match authority.split_once(':') {
        None => (authority, 80),
        Some((host, port)) => {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| is_number && *port > 0);
            (host, port.ok_or("the URL's port is not a whole number from 1 to 65535")?)
        }
    };
    let tail = tail.split('#').next().unwrap_or_default();
    Ok((host, port, if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url| split_url(url).map(|(host, port, path)| format!("{host} {port} {path}"));
        for (url, expected) in [
            ("http://app", "app 80 /"),
            ("http://app/status?all=1#top", "app 80 /status?all=1"),
            ("http://app:8080?x", "app 8080 /?x"),
            ("http://10.77.0.11/#x", "10.77.0.11 80 /"),
        ] {
            assert_eq!(parts(url).as_deref(), Ok(expected));
        }
        for (url, reason) in [
            ("app/status", "http://"),
            ("https://app/", "http://"),
            ("http://app/a b", "%20"),
            ("http://app/\r\nX: y", "%20"),
            ("http://app:x/", "from 1 to 65535"),
            ("http://app:0/", "from 1 to 65535"),
            ("http://app:65536/", "from 1 to 65535"),
            ("http://app:+80/", "from 1 to 65535"),
            ("http://user:80@app/", "from 1 to 65535"),
            ("--version", "http://"),
        ] {
            let error = split_url(url).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
