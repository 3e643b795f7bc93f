//! Keys for what users plug in.

use super::*;

#[test]
fn keys_for_interceptors_are_kept_as_they_are() {
    let mut config = with(&[("interceptor.a", " x\n "), ("interceptor.", "")]);
    assert_eq!(config.get("interceptor.a"), Some(" x\n "));
    assert_eq!(config.get("interceptor."), Some(""));
    config.settings().unwrap();
    assert!(refused(&format!("interceptor.{}", "k".repeat(300)), "1").contains("at most 255"));
    for i in 0..998 {
        config.set(&format!("interceptor.{i}"), "1").unwrap();
    }
    let error = config.set("interceptor.one.more", "1").unwrap_err();
    assert!(error.message.contains("at most 1000"), "{error}");
    config.set("interceptor.a", "2").unwrap();
}

#[test]
fn serializers_go_by_name_or_by_javas_class() {
    for key in ["key.serializer", "value.serializer"] {
        let class = "org.apache.kafka.common.serialization.UUIDSerializer";
        for name in ["bytes", "Json", class] {
            assert_eq!(with(&[(key, name)]).get(key), Some(name));
        }
        let message = refused(key, "com.example.Mine");
        assert!(message.starts_with(&format!("{key}=\"com.example.Mine\": ")), "{message}");
        assert!(message.contains("has to be bytes, string, int16, "), "{message}");
    }
}
