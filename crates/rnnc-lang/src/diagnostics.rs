//! What is wrong with a text, and how it is shown: the line with the place marked, what is wrong, what to write
//! instead.

use crate::syntax::Span;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
pub(crate) use rnnc_graph::count as counted;
use rnnc_graph::nearest;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// The most errors shown of one text; the others are counted.
const MAX_SHOWN: usize = 20;

/// Past so many errors, no more are looked for.
pub(crate) const MAX_ERRORS: usize = 100;

/// One thing that is wrong, with the places that show it.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    message: String,
    /// The first is the place of the error.
    labels: Vec<(Span, String)>,
    help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(place: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), labels: vec![(place, String::new())], help: None }
    }

    /// What is written at the place of the error.
    pub(crate) fn label(mut self, text: impl Into<String>) -> Diagnostic {
        self.labels[0].1 = text.into();
        self
    }

    /// Another place that has to do with it.
    pub(crate) fn also(mut self, place: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push((place, text.into()));
        self
    }

    /// What to write instead.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help = Some(text.into());
        self
    }

    /// Whether that place is marked.
    pub(crate) fn shows(&self, place: Span) -> bool {
        self.labels.iter().any(|&(span, _)| span == place)
    }

    /// The place where there is something to change: of an error within a cell of the library, the call of it.
    fn cause(&self) -> Span {
        self.labels.iter().map(|&(span, _)| span).find(|span| span.text == 0).unwrap_or(self.labels[0].0)
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// A text that spans point into.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SourceText {
    pub name: String,
    pub text: String,
}

/// All that is wrong with a text.
///
/// ```
/// let errors = rnnc_lang::compile("net.rnn", "network n { input x : vector(3)  y = tahn(x)  output y }", None)
///     .unwrap_err();
/// assert!(errors.to_string().contains("did you mean `tanh`?"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// The user's text first, then those of the library that spans point into, by their number.
    texts: Vec<Option<SourceText>>,
    list: Vec<Diagnostic>,
}

impl Errors {
    /// Takes up diagnostics, each once, and the texts they point into.
    pub(crate) fn new(list: Vec<Diagnostic>, text: impl Fn(u32) -> Option<SourceText>) -> Errors {
        let mut seen = HashSet::new();
        let mut list = list;
        list.retain(|d| seen.insert((d.message.clone(), d.cause())));
        let last = list.iter().flat_map(|d| &d.labels).map(|(span, _)| span.text).max().unwrap_or(0);
        Errors { texts: (0..=last).map(text).collect(), list }
    }

    /// Each of them.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.list
    }

    /// As people read it: each error with its lines of the text. `color` is for terminals.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut parts: Vec<String> = self
            .list
            .iter()
            .take(MAX_SHOWN)
            .map(|diagnostic| renderer.render(&[self.group(diagnostic)]).to_string())
            .collect();
        if self.list.len() > MAX_SHOWN {
            parts.push(format!("... and {} more errors", self.list.len() - MAX_SHOWN));
        }
        parts.join("\n\n")
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let mut group = Level::ERROR
            .primary_title(diagnostic.message.as_str())
            .elements(None::<Snippet<'_, annotate_snippets::Annotation<'_>>>);
        let mut texts: Vec<u32> = Vec::new();
        for (span, _) in &diagnostic.labels {
            if !texts.contains(&span.text) {
                texts.push(span.text);
            }
        }
        for number in texts {
            let Some(Some(source)) = self.texts.get(number as usize) else { continue };
            let labels: Vec<_> = diagnostic.labels.iter().filter(|(span, _)| span.text == number).collect();
            let window = Window::around(&source.text, labels.iter().map(|(span, _)| *span));
            let mut snippet = Snippet::source(window.text).line_start(window.line).path(source.name.as_str());
            for (span, label) in labels {
                let primary = *span == diagnostic.labels[0].0;
                let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
                snippet = snippet.annotation(kind.span(window.range(*span)).label(label.as_str()));
            }
            group = group.element(snippet);
        }
        match &diagnostic.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.render(false))
    }
}

impl std::error::Error for Errors {}

/// The lines that hold some spans, so that showing a line takes no time that grows with the text.
struct Window<'t> {
    text: &'t str,
    /// The number of the first line, from 1.
    line: usize,
    /// Its first byte.
    offset: usize,
}

impl<'t> Window<'t> {
    fn around(text: &'t str, spans: impl Iterator<Item = Span> + Clone) -> Window<'t> {
        let first = spans.clone().map(|s| s.start as usize).min().unwrap_or(0).min(text.len());
        let last = spans.map(|s| s.end as usize).max().unwrap_or(0).clamp(first, text.len());
        let offset = text.as_bytes()[..first].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let end = text.as_bytes()[last..].iter().position(|&b| b == b'\n').map_or(text.len(), |i| last + i);
        let line = 1 + text.as_bytes()[..offset].iter().filter(|&&b| b == b'\n').count();
        // Line breaks are one byte, so both ends are borders of characters.
        Window { text: text.get(offset..end).unwrap_or_default(), line, offset }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let inside = |at: u32| (at as usize).saturating_sub(self.offset).min(self.text.len());
        inside(span.start)..inside(span.end).max(inside(span.start))
    }
}

/// A name as a message shows it: very long ones lose their end.
pub(crate) fn shortened(name: &str) -> String {
    const SHOWN: usize = 60;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// "did you mean `tanh`?", if a candidate is near enough to be meant.
pub(crate) fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|near| format!("did you mean `{near}`?"))
}

/// "`a`, `b` and `c`"
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().take(SHOWN + 1).collect();
    let mut quoted: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{}`", shortened(n))).collect();
    if names.len() > SHOWN {
        quoted.push("others".into());
    }
    match quoted.split_last() {
        None => "none".into(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// "1 input is", "2 inputs are"
pub(crate) fn counted_are(count: usize, what: &str) -> String {
    format!("{} {}", counted(count, what), if count == 1 { "is" } else { "are" })
}
