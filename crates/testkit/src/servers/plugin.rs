//! `age-plugin-pq`, the plugin that the author of age wrote for post-quantum recipients: X25519 with ML-KEM-768.
//!
//! It is reached as a plugin of hardware is: a program in the PATH that speaks the plugin protocol.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::go_build_packages;
use crate::skip;

/// The plugin, built.
pub struct Plugin {
    directory: PathBuf,
}

impl Plugin {
    /// Builds it. `None`, and said so for `test`, where Go is not installed.
    pub fn build(test: &str) -> Option<Self> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match BUILT.get_or_init(|| go_build_packages("age-plugin-pq", &["tool"])) {
            Ok(directory) => Some(Self {
                directory: directory.clone(),
            }),
            Err(why) => {
                skip(test, why);
                None
            }
        }
    }

    /// The PATH of these tests with the plugin in it.
    pub fn path(&self) -> OsString {
        with_first(&self.directory)
    }

    /// Makes an identity of the plugin in this new file, and gives its recipient.
    pub fn identity(&self, file: &Path) -> String {
        let native = file.with_extension("native");
        self.run(&["age-keygen", "-pq", "-o"], &native);
        let recipient = self.run(&["age-keygen", "-y"], &native);
        let mut convert = Command::new(self.directory.join("age-plugin-pq"));
        convert.args(["-identity", "-o"]).arg(file).arg(&native);
        assert!(convert.status().expect("the plugin starts").success());
        std::fs::remove_file(native).expect("it is there");
        recipient.trim().to_owned()
    }

    fn run(&self, words: &[&str], file: &Path) -> String {
        let mut command = Command::new(self.directory.join(words[0]));
        let output = command.args(&words[1..]).arg(file).output();
        let output = output.expect("it was built");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// The PATH of these tests with a directory in front.
pub fn with_first(directory: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).expect("no colon in it")
}
