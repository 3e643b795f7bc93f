//! The house rules that no other tool checks: who imports whom, where `unsafe` may stand, what
//! every file begins with, how wide and how long files are, and that what the documents say about
//! files is true.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Layer 0: what everybody may import.
const GROUND: &[&str] = &["error", "clock", "sync", "rng", "record", "config", "log", "defects"];

/// Who may import whom: a room (a file or folder of src/, the longest that fits), and the rooms it
/// may import beside itself and, from layer 1 up, [`GROUND`]. Data flows accumulator -> sender ->
/// network; imports go sender -> both.
const LAYERS: &[(&str, &[&str])] = &[
    // 5
    ("ffi", &["producer", "delivery", "partitioner", "interceptors", "serializer"]),
    ("ffi/mock", &["ffi", "mock"]),
    // 4
    (
        "producer",
        &[
            "sender",
            "accumulator",
            "partitioner",
            "interceptors",
            "serializer",
            "delivery",
            "metadata",
            "network",
            "protocol",
        ],
    ),
    // Beside the others: the simulator (tests only) drives the whole core against the mock
    // cluster.
    (
        "sim",
        &[
            "producer",
            "sender",
            "accumulator",
            "delivery",
            "metadata",
            "network",
            "protocol",
            "mock",
        ],
    ),
    // 3
    (
        "sender",
        &[
            "accumulator",
            "transactions",
            "partitioner",
            "metadata",
            "delivery",
            "network",
            "protocol",
        ],
    ),
    // 2
    ("accumulator", &["transactions", "protocol"]),
    ("transactions", &["protocol"]),
    ("partitioner", &["metadata"]),
    ("interceptors", &["serializer", "delivery"]),
    ("serializer", &[]),
    ("delivery", &["accumulator", "protocol"]),
    ("metadata", &["protocol"]),
    ("network", &["protocol"]),
    // 1
    ("protocol", &[]),
    ("mock", &["protocol"]),
    // 0
    ("config", &["error", "log"]),
    ("log", &["sync", "clock"]),
    ("record", &["error"]),
    ("sync", &["clock"]),
    ("rng", &[]),
    ("clock", &[]),
    ("error", &[]),
    ("defects", &[]),
];

/// Files outside of src/ffi that may contain `unsafe`; each says why in an `expect(unsafe_code)` of
/// its own.
const UNSAFE: &[&str] = &[
    "src/accumulator/prefetch.rs",
    "src/clock/counter.rs",
    "src/sync/front_lock.rs",
    "src/sync/futex.rs",
];

/// Files that may be longer, with their limit: lines before the tests.
const LONG: &[(&str, usize)] = &[];
const MAX_LINES: usize = 500;
const MAX_COLUMNS: usize = 100;

/// What marks unfinished work.
const BANNED: &[&str] = &["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "dbg!(", "for now"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository: its path from the root, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

/// All files under `folders` with one of these endings, in order; build products left out.
fn files(folders: &[&str], endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            if !["target", "build", "corpus"].iter().any(|name| path.ends_with(name)) {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if path.extension().is_some_and(|end| endings.iter().any(|e| end == *e)) {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            found.push(File { path: name, text: fs::read_to_string(&path).unwrap() });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The library's own files: those that only a test or a model build contains are left out.
fn library() -> Vec<File> {
    let all = files(&["src"], &["rs"]);
    let tests: BTreeSet<String> = all.iter().flat_map(test_modules).collect();
    let is_test = |path: &str| {
        tests
            .iter()
            .any(|module| path == format!("{module}.rs") || path.starts_with(&format!("{module}/")))
    };
    all.into_iter().filter(|file| !is_test(&file.path)).collect()
}

/// The modules of files of their own that `file` declares under a `cfg` naming `test` or `loom`:
/// paths without `.rs`.
fn test_modules(file: &File) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').unwrap();
    let inside = match name {
        "mod.rs" | "lib.rs" => folder.to_owned(),
        _ => file.path.trim_end_matches(".rs").to_owned(),
    };
    let lines: Vec<&str> = file.text.lines().collect();
    let declared = lines.windows(2).filter_map(|pair| {
        let module = pair[1].trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let module = module.strip_prefix("mod ")?.strip_suffix(';')?;
        is_test_cfg(pair[0]).then(|| format!("{inside}/{module}"))
    });
    declared.collect()
}

fn is_test_cfg(line: &str) -> bool {
    line.starts_with("#[cfg(") && (line.contains("test") || line.contains("loom"))
}

/// The number of lines before the tests at the file's end.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        is_test_cfg(pair[0]) && pair[1].contains("mod ") && pair[1].ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

/// The code before the tests, with comments and the insides of literals blanked out; line breaks
/// stay.
fn code(file: &File) -> String {
    let before: String = file
        .text
        .lines()
        .take(lines_before_tests(&file.text))
        .flat_map(|line| [line, "\n"])
        .collect();
    blank(&before)
}

fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment, string or character literal that begins at `at` ends; `at` if none does.
fn literal_or_comment(chars: &[char], at: usize) -> usize {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let find = |from: usize, what: &dyn Fn(usize) -> bool, len: usize| {
        (from..chars.len()).find(|&i| what(i)).map_or(chars.len(), |i| i + len)
    };
    let in_word = at > 0 && (get(at - 1).is_alphanumeric() || get(at - 1) == '_');
    match get(at) {
        '/' if get(at + 1) == '/' => find(at, &|i| get(i) == '\n', 0),
        '/' if get(at + 1) == '*' => find(at + 2, &|i| get(i) == '*' && get(i + 1) == '/', 2),
        'r' if !in_word && (get(at + 1) == '"' || get(at + 1) == '#') => {
            let hashes = (at + 1..).take_while(|&i| get(i) == '#').count();
            if get(at + 1 + hashes) != '"' {
                return at;
            }
            let closes = |i: usize| get(i) == '"' && (1..=hashes).all(|h| get(i + h) == '#');
            find(at + 2 + hashes, &closes, 1 + hashes)
        }
        '"' => {
            let mut end = at + 1;
            while end < chars.len() && get(end) != '"' {
                end += if get(end) == '\\' { 2 } else { 1 };
            }
            (end + 1).min(chars.len())
        }
        '\'' if get(at + 1) == '\\' => find(at + 3, &|i| get(i) == '\'', 1),
        '\'' if get(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

/// The rooms that code names: the first word of every `crate::` path, of every branch of
/// `crate::{...}` too.
fn imports(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let path = &code[at + "crate::".len()..];
        let Some(branches) = path.strip_prefix('{') else {
            rooms.insert(word(path));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in branches.char_indices() {
            match c {
                '{' => depth += 1,
                ',' if depth == 0 => {
                    rooms.insert(word(&branches[start..i]));
                    start = i + 1;
                }
                '}' if depth == 0 => {
                    rooms.insert(word(&branches[start..i]));
                    break;
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    rooms.remove("");
    rooms
}

/// The room of a file of src/: the longest row of [`LAYERS`] that fits.
fn room(path: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let inside = path.strip_prefix("src/")?.trim_end_matches(".rs");
    let fits = |name: &str| inside == name || inside.starts_with(&format!("{name}/"));
    LAYERS.iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len())
}

/// Fails with every problem, one a line.
fn check(problems: Vec<String>) {
    let mut report = String::new();
    for problem in &problems {
        writeln!(report, "  {problem}").unwrap();
    }
    assert!(problems.is_empty(), "{} problem(s):\n{report}", problems.len());
}

#[test]
fn imports_follow_the_layers() {
    let mut problems = Vec::new();
    for file in library().iter().filter(|file| file.path != "src/lib.rs") {
        let Some((name, allowed)) = room(&file.path) else {
            problems.push(format!("{}: has no row in LAYERS", file.path));
            continue;
        };
        let itself = name.split('/').next().unwrap();
        let ground = if GROUND.contains(name) { &[] } else { GROUND };
        let code = code(file);
        for import in imports(&code) {
            let fine = import == itself || allowed.iter().chain(ground).any(|room| *room == import);
            if !fine {
                problems.push(format!("{}: {name} may not import {import}", file.path));
            }
        }
        // A way around `crate::`: from a room's own root, one `super` is the crate.
        let at_root = file.path.matches('/').count() == 1 || file.path.ends_with("/mod.rs");
        let escapes = if at_root { "super::" } else { "super::super::" };
        let at_line_start = |line: &str| line.starts_with(&format!("use {escapes}"));
        if code.contains("super::super::") || code.lines().any(at_line_start) {
            problems.push(format!("{}: leaves its room by super::, say crate::", file.path));
        }
    }
    check(problems);
}

#[test]
fn every_room_of_the_table_is_reachable_from_above_only() {
    // The table itself: no two rooms may import each other, directly or around a corner.
    let table: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut problems = Vec::new();
    for room in table.keys().filter(|room| !room.contains('/')) {
        let mut seen = BTreeSet::new();
        let mut open = table[room].to_vec();
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(table.get(next).copied().unwrap_or_default());
            }
        }
        if seen.contains(room) {
            problems.push(format!("{room} imports itself around a corner"));
        }
    }
    check(problems);
}

#[test]
fn unsafe_stands_at_the_c_boundary() {
    let mut problems = Vec::new();
    for file in library().iter().filter(|file| !file.path.starts_with("src/ffi/")) {
        let code = code(file);
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let has_unsafe = words.into_iter().any(|word| word == "unsafe");
        let gives_reason = file.text.contains("#![expect(unsafe_code, reason =")
            || file.text.contains("#![expect(\n    unsafe_code,\n    reason =");
        let listed = UNSAFE.contains(&file.path.as_str());
        if has_unsafe && !listed {
            problems.push(format!("{}: unsafe outside of src/ffi", file.path));
        }
        if has_unsafe && !gives_reason {
            problems.push(format!("{}: no #![expect(unsafe_code, reason = ...)]", file.path));
        }
        if listed && !has_unsafe {
            problems.push(format!("{}: listed in UNSAFE, has none", file.path));
        }
    }
    check(problems);
}

#[test]
fn files_are_narrow_and_short_and_say_what_they_are() {
    let mut problems = Vec::new();
    for file in files(&["src"], &["rs"]) {
        if !file.text.starts_with("//! ") {
            problems.push(format!("{}: does not begin with //!", file.path));
        }
        let lines = lines_before_tests(&file.text);
        let limit = LONG.iter().find(|(path, _)| *path == file.path).map_or(MAX_LINES, |(_, n)| *n);
        if lines > limit {
            problems.push(format!("{}: {lines} lines before the tests, {limit} fit", file.path));
        }
    }
    let folders = ["src", "tests", "ctest", "examples", "benches", "benchmarks", "fuzz", ".ci"];
    for file in files(&folders, &["rs", "c", "cpp", "h", "hpp", "sh", "py", "java", "go"]) {
        for (number, line) in (1..).zip(file.text.lines()) {
            let columns = line.chars().count();
            if columns > MAX_COLUMNS {
                problems.push(format!("{}:{number}: {columns} columns", file.path));
            }
        }
    }
    check(problems);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut problems = Vec::new();
    let folders = ["src", "tests", "ctest", "examples", "benches", "benchmarks", "fuzz", "cmake"];
    let endings = ["rs", "c", "cpp", "h", "hpp", "sh", "py", "java", "go", "cmake", "txt"];
    for file in files(&folders, &endings).iter().filter(|file| file.path != "tests/tidy.rs") {
        for (number, line) in (1..).zip(file.text.lines()) {
            for word in BANNED.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{}:{number}: {word}", file.path));
            }
        }
    }
    for file in &library() {
        for (number, line) in (1..).zip(code(file).lines()) {
            if line.contains(".unwrap()") || line.contains(".expect(") {
                problems.push(format!("{}:{number}: may panic", file.path));
            }
        }
    }
    check(problems);
}

#[test]
fn skipped_tests_say_so() {
    let mut problems = Vec::new();
    for file in files(&["src", "tests", "ctest"], &["rs"]) {
        if file.path != "tests/tidy.rs" && blank(&file.text).contains("#[ignore") {
            problems.push(format!("{}: #[ignore]: print `skipped: WHICH: WHY`", file.path));
        }
    }
    for file in files(&["tests", "ctest"], &["c", "cpp", "sh", "py"]) {
        let skips = ["exit 77", "exit(77)", "return 77"].iter().any(|end| file.text.contains(end));
        if skips && !file.text.contains("skipped: ") {
            problems.push(format!("{}: exits with 77 and prints no `skipped: ` line", file.path));
        }
    }
    check(problems);
}

/// A document's section, from the heading that contains `title` to the next of the same or a higher
/// level.
fn section<'a>(document: &'a str, title: &str) -> Option<&'a str> {
    let heading = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let mut start = None;
    let mut at = 0;
    for line in document.split_inclusive('\n') {
        let level = heading(line);
        match start {
            None if level > 0 && line.to_lowercase().contains(title) => start = Some((at, level)),
            Some((from, of)) if level > 0 && level <= of => return Some(&document[from..at]),
            _ => {}
        }
        at += line.len();
    }
    start.map(|(from, _)| &document[from..])
}

#[test]
fn the_file_map_is_true() {
    let Ok(document) = fs::read_to_string(root().join("ARCHITECTURE.md")) else { return };
    let map = section(&document, "file map").expect("ARCHITECTURE.md has no section `File map`");
    let mut problems = Vec::new();
    let is_path = |c: char| c.is_alphanumeric() || "_./-".contains(c);
    let named: BTreeSet<&str> =
        map.split(|c: char| !is_path(c)).map(|word| word.trim_start_matches("src/")).collect();
    let mut there = BTreeSet::new();
    for file in files(&["src"], &["rs"]) {
        let inside = file.path.trim_start_matches("src/").to_owned();
        let folder = inside.strip_suffix("mod.rs").unwrap_or(&inside);
        if !named.contains(inside.as_str()) && !named.contains(folder) {
            problems.push(format!("{}: not in ARCHITECTURE.md's file map", file.path));
        }
        there.insert(inside);
    }
    for name in named.iter().filter(|name| name.ends_with(".rs") && !name.starts_with("tests/")) {
        if !there.contains(*name) && !root().join(name).exists() {
            problems.push(format!("ARCHITECTURE.md's file map names {name}: no such file"));
        }
    }
    check(problems);
}

/// The text without the indentation that all its lines share.
fn dedent(lines: &[&str]) -> Vec<String> {
    let filled = lines.iter().filter(|line| !line.trim().is_empty());
    let indent = filled.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines.iter().map(|line| line.get(indent..).unwrap_or("").trim_end().to_owned()).collect()
}

#[test]
fn the_readme_quotes_its_examples() {
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else { return };
    let examples = files(&["examples"], &["c"]);
    let lines: Vec<&str> = readme.lines().collect();
    let mut problems = Vec::new();
    let mut start = None;
    for (number, line) in lines.iter().enumerate() {
        match (start, line.trim()) {
            (None, "```c") => start = Some(number + 1),
            (Some(from), "```") => {
                start = None;
                let block = dedent(&lines[from..number]);
                let quoted = examples.iter().any(|file| {
                    let text: Vec<&str> = file.text.lines().collect();
                    text.windows(block.len()).any(|window| dedent(window) == block)
                });
                if !quoted {
                    problems.push(format!("README.md:{from}: this C stands in no examples/*.c"));
                }
            }
            _ => {}
        }
    }
    check(problems);
}

#[test]
fn the_reader_of_code_reads_code() {
    let text = "use crate::{a::b, c::{d, e},\n f}; // crate::g\nlet s = \"crate::h\\\"\"; '\"'; \
                r#\"crate::i\"# /* crate::j */ fn x<'a>(y: &'a crate::k::L) {}";
    let found: Vec<String> = imports(&blank(text)).into_iter().collect();
    assert_eq!(found, ["a", "c", "f", "k"]);
    let document = "# a\nx\n## File map\ny\n### z\n## b\n";
    assert_eq!(section(document, "file map"), Some("## File map\ny\n### z\n"));
}

/// The tests that `tests/README.md` names in backquotes: a file, and a function in it if one is
/// named.
fn named_tests(text: &str) -> Vec<(&str, Option<&str>)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let places =
        quoted.filter(|quoted| ["tests/", "src/", "ctest/"].iter().any(|f| quoted.starts_with(f)));
    places
        .map(|place| match place.split_once("::") {
            Some((file, name)) => (file, Some(name)),
            None => (place, None),
        })
        .collect()
}

#[test]
fn every_fault_scenario_has_its_test() {
    const LAST: usize = 72;
    let document = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let scenarios = section(&document, "fault scenarios").expect("tests/README.md: no scenarios");
    let mut problems = Vec::new();
    for number in 1..=LAST {
        let start = format!("| S{number} |");
        let lines: Vec<&str> = scenarios.lines().filter(|line| line.starts_with(&start)).collect();
        match lines.as_slice() {
            [line] => {
                let excused = ["later: ", "nightly: ", "not applicable: "];
                if named_tests(line).is_empty() && !excused.iter().any(|why| line.contains(why)) {
                    problems.push(format!("S{number}: neither a test nor why there is none"));
                }
            }
            _ => problems.push(format!("S{number}: {} lines in tests/README.md", lines.len())),
        }
    }
    for (file, name) in named_tests(scenarios) {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        if text.is_empty() {
            problems.push(format!("tests/README.md names {file}: no such file"));
        } else if name.is_some_and(|name| !text.contains(&format!("fn {name}("))) {
            problems.push(format!("tests/README.md names {file}::{}: no such test", name.unwrap()));
        }
    }
    for file in files(&["src", "tests"], &["rs"]) {
        let names = file.text.split("fn ").skip(1).filter_map(|rest| rest.split_once('('));
        for (name, _) in names {
            let digits = name.strip_prefix('s').and_then(|rest| rest.split_once('_'));
            let is_scenario = digits.is_some_and(|(number, _)| number.parse::<usize>().is_ok());
            if is_scenario && !scenarios.contains(&format!("{}::{name}`", file.path)) {
                problems.push(format!("{}::{name}: not in tests/README.md", file.path));
            }
        }
    }
    check(problems);
}
