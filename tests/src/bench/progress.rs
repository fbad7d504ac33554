//! How far a bench has come, for a terminal only: nothing is written where standard error is a file or a pipe.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `steps` on standard error. It is gone once it is dropped.
pub fn bar(what: &str, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    // the template is a constant: the default stands in for a mistake in it
    if let Ok(style) = ProgressStyle::with_template("{msg:<44} {wide_bar} {percent:>3} % {eta:>4}")
    {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
