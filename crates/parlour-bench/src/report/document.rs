//! The content of a report, independent of the output format.

/// A report.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document {
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Block {
    /// A heading, from level 2 on.
    Heading(usize, String),
    /// A paragraph in Markdown. Only `code` and **strong** are supported.
    Text(String),
    Table(Table),
    Chart(Chart),
}

/// A table. The first `text_columns` columns are text, the others are figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// The number of columns that are aligned to the left.
    pub(super) text_columns: usize,
    /// The summary of a table that interests few readers and is collapsed.
    pub(super) details: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) mood: Mood,
}

/// The style of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Mood {
    #[default]
    Plain,
    Good,
    Bad,
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart {
    /// The name of the file, without its extension.
    pub(super) name: String,
    /// The alternative text.
    pub(super) alt: String,
    pub(super) svg: String,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), mood: Mood::Plain }
    }
}

impl Document {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), blocks: Vec::new() }
    }

    pub(super) fn heading(&mut self, level: usize, text: impl Into<String>) {
        self.blocks.push(Block::Heading(level, text.into()));
    }

    pub(super) fn text(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Text(text.into()));
    }

    pub(super) fn table(&mut self, table: Table) {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table(table));
        }
    }
}

impl Table {
    pub(super) fn new(text_columns: usize, header: &[&str]) -> Self {
        let header = header.iter().map(|&title| title.to_owned()).collect();
        Self { header, text_columns, ..Self::default() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}
