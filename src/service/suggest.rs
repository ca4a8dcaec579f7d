//! What somebody probably meant.

use super::table::{Object, Shape};

/// The word of `known` that `typed` is a slip of, if any is near enough.
pub(super) fn nearest<'k>(
    typed: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let typed = typed.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|word| {
            let same = word.to_lowercase().replace('-', "_");
            (strsim::damerau_levenshtein(&typed, &same), word)
        })
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The hint for a key that `object` does not have.
pub(super) fn for_key(typed: &str, object: &Object) -> String {
    let known = || object.fields.iter().map(|field| field.key);
    if let Some(key) = nearest(typed, known()) {
        return format!("did you mean {key:?}?");
    }
    // Right, but a level too high.
    for field in object.fields {
        if let Shape::Object(inner) = &field.shape
            && inner.fields.iter().any(|below| below.key == typed)
        {
            return format!("did you mean {}.{typed}?", field.key);
        }
    }
    let known: Vec<&str> = known().collect();
    format!("known here: {}", known.join(", "))
}
