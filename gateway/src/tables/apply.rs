//! Carrying out a plan.

use std::io;

use aya::maps::{MapError, PerCpuValues};
use sluice_gateway_ebpf::maps::{MAX_RANGES, MAX_SERVICES, ServiceStats};

use super::{
    address::IpBytes,
    error::Error,
    read::range_key,
    step::{FamilyStep, Step},
};
use crate::bpf::{FamilyMaps, LoaderFamily, Maps};

/// Makes the changes in order, and stops at the first that the kernel refuses.
///
/// # Errors
///
/// [`Error::Write`], [`Error::Full`] and [`Error::NoFamily`] name the change; [`Error::Cpus`].
pub fn apply(maps: &mut Maps, steps: &[Step]) -> Result<(), Error> {
    for step in steps {
        tracing::debug!(%step, "maps");
        match step {
            Step::Config(config) => {
                maps.shared.config.set(0, config, 0).map_err(|error| refused(step, error))?
            }
            Step::ResetStats(id) => {
                let cpus = aya::util::nr_cpus().map_err(|(file, source)| Error::Cpus { file, source })?;
                let zero = PerCpuValues::try_from(vec![ServiceStats::default(); cpus])
                    .map_err(|source| Error::Cpus { file: "/sys/devices/system/cpu/possible", source })?;
                maps.shared.service_stats.set(*id, zero, 0).map_err(|error| refused(step, error))?;
            }
            Step::V4(change) => family(maps.v4.as_mut(), change, step)?,
            Step::V6(change) => family(maps.v6.as_mut(), change, step)?,
        }
    }
    Ok(())
}

fn family<F: LoaderFamily<Addr: IpBytes>>(
    maps: Option<&mut FamilyMaps<F>>,
    change: &FamilyStep<F::Addr>,
    step: &Step,
) -> Result<(), Error> {
    let maps = maps.ok_or_else(|| Error::NoFamily { step: step.to_string() })?;
    let result = match change {
        FamilyStep::PutService(key, service) => maps.services.insert(key, service, 0),
        FamilyStep::DeleteService(key) => gone(maps.services.remove(key)),
        FamilyStep::PutTarget(slot, target) => maps.targets.set(u32::from(*slot), target, 0),
        FamilyStep::PutRange(id, prefix) => maps.ranges.insert(&range_key(*id, prefix), 1, 0),
        FamilyStep::DeleteRange(id, prefix) => gone(maps.ranges.remove(&range_key(*id, prefix))),
    };
    result.map_err(|error| refused(step, error))
}

/// Deleting what is not there is no error.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

fn refused(step: &Step, error: MapError) -> Error {
    let full = matches!(errno(&error), Some(libc::E2BIG | libc::ENOSPC));
    let advice = match step {
        Step::V4(FamilyStep::PutService(..)) | Step::V6(FamilyStep::PutService(..)) if full => {
            format!(
                "a gateway serves {MAX_SERVICES} pairs of VIP and port of each family: move services to another one"
            )
        }
        Step::V4(FamilyStep::PutRange(..)) | Step::V6(FamilyStep::PutRange(..)) if full => format!(
            "a gateway holds {MAX_RANGES} source ranges of each family, counted once for each port: use fewer `sourceRanges`"
        ),
        _ => return Error::Write { step: step.to_string(), source: Box::new(error) },
    };
    Error::Full { step: step.to_string(), advice }
}

fn errno(error: &MapError) -> Option<i32> {
    let error: &io::Error = match error {
        MapError::SyscallError(error) => &error.io_error,
        MapError::IoError(error) => error,
        _ => return None,
    };
    error.raw_os_error()
}
