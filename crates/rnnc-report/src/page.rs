//! Lines of text that are broken where they are too long.

/// The columns of a line.
pub(crate) const WIDTH: usize = 100;

/// A page of text under construction.
#[derive(Default)]
pub(crate) struct Page {
    pub text: String,
}

impl Page {
    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A line, broken at spaces where it is too long; its rest is indented two more.
    pub fn line(&mut self, indent: usize, text: &str) {
        self.paragraph(indent, indent + 2, text);
    }

    pub fn paragraph(&mut self, indent: usize, rest: usize, text: &str) {
        let mut column = indent;
        self.text.extend(std::iter::repeat_n(' ', indent));
        // Split so that runs of spaces, which align columns, stay.
        for (i, word) in text.split(' ').enumerate() {
            let len = word.chars().count();
            if i > 0 && column + 1 + len > WIDTH && column > rest {
                self.text.truncate(self.text.trim_end_matches(' ').len());
                self.text.push('\n');
                self.text.extend(std::iter::repeat_n(' ', rest));
                column = rest;
            } else if i > 0 {
                self.text.push(' ');
                column += 1;
            }
            self.text.push_str(word);
            column += len;
        }
        self.text.push('\n');
    }

    /// A word or two at the left, and what is said of them at the right.
    pub fn entry(&mut self, indent: usize, label: &str, width: usize, text: &str) {
        self.paragraph(indent, indent + width, &format!("{label:<width$}{text}"));
    }
}
