//! What must hold of the gateway file's reader, whatever it is given.

use sluice_gateway::config::file::File;
use sluice_gateway::config::parse;

/// Reads `bytes` as a gateway file. A refusal has a fault and a fix; what is accepted can be written and read again.
///
/// # Panics
/// One of these does not hold.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse("gateway.yaml", text) {
        Ok(config) => {
            let written = File::from(&config).to_yaml().expect("a model can be written");
            let again = parse("written.yaml", &written).expect("a written model can be read");
            assert_eq!(again, config, "{written}");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            for problem in error.problems() {
                assert!(!problem.fault.is_empty() && !problem.fix.is_empty(), "{problem:?}");
            }
        }
    }
}
