//! A page as a browser sees it: Chromium's DOM, and the text nodes in it.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A text of the page and the tag around it.
#[derive(Debug)]
pub struct TextNode {
    tag: String,
    /// As a reader sees it.
    pub text: String,
}

impl TextNode {
    /// An attribute of the tag around the text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let (_, rest) = self.tag.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| unescape(value))
    }
}

/// The DOM after loading; `None`, said on stderr, where there is no Chromium. CI must have it.
pub fn dom(page: &Path) -> Option<String> {
    let profile = TempDir::new().unwrap();
    let start = |program: &str| {
        Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("file://{}", page.display()))
            .output()
    };
    // As scripts/setup.sh knows it.
    match start("chromium").or_else(|_| start("chromium-browser")).or_else(|_| start("google-chrome")) {
        Ok(output) => {
            let dom = String::from_utf8(output.stdout).unwrap();
            assert!(dom.contains("</html>"), "chromium: {}", String::from_utf8_lossy(&output.stderr));
            Some(dom)
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "chromium can't be started: {error}");
            eprintln!("skipped: chromium can't be started: {error}");
            None
        }
    }
}

/// All texts that the body shows (tooltips and texts of white space left out).
pub fn texts(dom: &str) -> Vec<TextNode> {
    let (_, body) = dom.split_once("<body>").unwrap();
    let mut open: Vec<&str> = Vec::new();
    let mut texts = Vec::new();
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        match tag.strip_prefix('/') {
            Some(name) => while open.pop().is_some_and(|tag| tag.split(' ').next() != Some(name)) {},
            None => open.push(tag),
        }
        if let Some(tag) = open.last().filter(|tag| **tag != "title" && !text.trim().is_empty()) {
            texts.push(TextNode { tag: (*tag).to_owned(), text: unescape(text) });
        }
    }
    texts
}

fn unescape(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", "\u{a0}"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}
