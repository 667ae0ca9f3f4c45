//! HTML and SVG that can't be injected into: every text and attribute is escaped as it goes in.

use std::fmt::{Display, Write};

/// Finished markup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markup(String);

/// An element under construction.
#[derive(Debug)]
pub struct Element {
    tag: &'static str,
    open: String,
    inner: String,
}

/// An element without attributes and content.
pub fn element(tag: &'static str) -> Element {
    Element { tag, open: format!("<{tag}"), inner: String::new() }
}

/// Text as it is shown.
pub fn text(text: &str) -> Markup {
    Markup(escape(text))
}

impl Markup {
    /// One behind the other.
    pub fn join(parts: impl IntoIterator<Item = impl Into<Markup>>) -> Self {
        parts.into_iter().map(|part| part.into().0).collect::<String>().into()
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Only for markup that was made here.
impl From<String> for Markup {
    fn from(markup: String) -> Self {
        Self(markup)
    }
}

impl From<Element> for Markup {
    fn from(element: Element) -> Self {
        let Element { tag, open, inner } = element;
        Self(format!("{open}>{inner}</{tag}>"))
    }
}

impl Element {
    /// An attribute.
    pub fn attribute(mut self, name: &'static str, value: impl Display) -> Self {
        self.open += &format!(" {name}=\"{}\"", escape(&value.to_string()));
        self
    }

    /// A coordinate or length in the units of the drawing.
    pub fn at(self, name: &'static str, value: f64) -> Self {
        self.attribute(name, Coordinate(value))
    }

    /// The class.
    pub fn class(self, class: &str) -> Self {
        self.attribute("class", class)
    }

    /// Appends text.
    pub fn text(mut self, text: &str) -> Self {
        self.inner += &escape(text);
        self
    }

    /// Appends a child.
    pub fn child(mut self, child: impl Into<Markup>) -> Self {
        self.inner += &child.into().0;
        self
    }

    /// Appends children.
    pub fn children(mut self, children: impl IntoIterator<Item = impl Into<Markup>>) -> Self {
        for child in children {
            self = self.child(child);
        }
        self
    }
}

/// A number of a drawing, to a hundredth, as short as it can be.
#[derive(Clone, Copy, Debug)]
pub struct Coordinate(pub f64);

impl Display for Coordinate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hundredths = (self.0 * 100.0).round() / 100.0;
        write!(f, "{}", if hundredths == 0.0 { 0.0 } else { hundredths })
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // Not allowed in HTML; shown as what it is.
            c if c.is_control() && !c.is_ascii_whitespace() => {
                let _ = write!(escaped, "{}", c.escape_unicode());
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_stay_text() {
        let hostile = "\"><script>alert('x') & \u{1b}</script>";
        let markup = Markup::from(element("p").attribute("title", hostile).text(hostile));
        let safe = "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;) &amp; \\u{1b}&lt;/script&gt;";
        assert_eq!(markup.as_str(), format!("<p title=\"{safe}\">{safe}</p>"));
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!(Coordinate(12.3456).to_string(), "12.35");
        assert_eq!(Coordinate(-0.001).to_string(), "0");
    }
}
