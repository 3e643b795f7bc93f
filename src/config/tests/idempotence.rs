//! What `enable.idempotence` needs of other keys, and who gives way; keys without effect.

use super::{problems, settings};

#[test]
fn what_has_no_effect_is_noted() {
    let notes = |keys: &[_]| settings(&[keys, &[("enable.idempotence", "false")]].concat()).notes;
    assert_eq!(
        notes(&[("acks", "0"), ("retries", "3")]),
        ["retries=3 has no effect: with acks=0 no failure is seen"]
    );
    assert_eq!(notes(&[("acks", "0")]), [""; 0]);
    assert_eq!(notes(&[("acks", "0"), ("retries", "0")]), [""; 0]);
    assert_eq!(
        notes(&[("allow.reordering", "true"), ("max.in.flight", "1")]),
        ["allow.reordering=true has no effect: max.in.flight=1"]
    );
    assert_eq!(notes(&[("max.in.flight", "1")]), [""; 0]);
}

#[test]
fn idempotence_gives_way_only_where_nobody_asked_for_it() {
    let conflicts = [
        ("acks", "1"),
        ("acks", "0"),
        ("retries", "0"),
        ("max.in.flight", "6"),
        ("allow.reordering", "true"),
    ];
    for (key, value) in conflicts {
        let gave_way = settings(&[(key, value)]);
        assert!(!gave_way.enable_idempotence, "{key}={value}");
        assert_eq!(
            gave_way.notes,
            [format!(
                "enable.idempotence is false instead of its default true: {key}={value}; what is \
                 sent again may be written twice"
            )]
        );
        let off = settings(&[(key, value), ("enable.idempotence", "false")]);
        assert_eq!((off.enable_idempotence, off.notes), (false, vec![]));
        let problems = problems(&[("enable.idempotence", "true"), (key, value)]);
        assert_eq!(problems.len(), 1);
        let named = format!("enable.idempotence=true contradicts {key}={value}: ");
        assert!(problems[0].starts_with(&named), "{problems:?}");
        assert!(problems[0].ends_with(", or set enable.idempotence=false"), "{problems:?}");
    }
    assert_eq!(
        problems(&[("enable.idempotence", "true"), ("acks", "1"), ("retries", "0")]).len(),
        2
    );
    let agreed =
        [("acks", "all"), ("retries", "1"), ("max.in.flight", "1"), ("enable.idempotence", "true")];
    assert!(settings(&agreed).enable_idempotence && settings(&agreed).notes.is_empty());
    assert!(settings(&[]).enable_idempotence);
}
