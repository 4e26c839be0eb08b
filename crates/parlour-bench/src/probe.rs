//! Single figures of a contender that are not times of messages, such as the time until a fault is known.

use anyhow::Result;

/// A figure of a contender that is measured once in each round.
pub trait Probe {
    /// Returns the name on the command line and in results: lower case, with hyphens.
    fn name(&self) -> &str;

    /// Describes the figure, for tables.
    fn title(&self) -> &str;

    /// Returns the name of the contender.
    fn contender(&self) -> &str;

    /// Returns the unit of the figure.
    fn unit(&self) -> &str;

    /// Returns the version of the contender, or nothing if a contender of that name has it.
    fn version(&self) -> String {
        String::new()
    }

    /// Describes the configuration of the contender.
    fn advice(&self) -> &str {
        ""
    }

    /// Measures the figure.
    ///
    /// # Errors
    ///
    /// Returns an error if the figure cannot be measured on this machine, or does not exist for this contender. It is
    /// then listed as not measured, with the reason.
    fn measure(&self) -> Result<f64>;
}
