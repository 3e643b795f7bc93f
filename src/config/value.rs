//! Values of keys, parsed from text.
