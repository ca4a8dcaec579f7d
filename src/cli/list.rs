//! `list`.

/// Arguments of `list`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct List {
    /// Shape of the output
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub format: TableFormat,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
}

/// Shape of the output of `list` and `ps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    /// Columns for people.
    Table,
    /// One JSON value.
    Json,
}
