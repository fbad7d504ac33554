//! The detector's behaviour, with the clock given.
