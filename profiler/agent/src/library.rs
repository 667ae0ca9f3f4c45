//! Where ONNX Runtime's library is.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};

use fleetfoot_protocol::EngineError;

/// The runtime to load: the device configuration's, else the one that `scripts/provider.sh` got for this provider
/// (`native/onnxruntime-PROVIDER/lib` above the agent's folder), else `ORT_DYLIB_PATH`, else beside the agent, else the
/// project's own (`native/onnxruntime/lib`).
pub fn find(configured: Option<&str>, provider: &str) -> Result<PathBuf, EngineError> {
    if let Some(path) = configured {
        return named(Path::new(path), "the device configuration's runtime_library");
    }
    if let Some(path) = own(&format!("onnxruntime-{provider}")).find_map(|folder| in_folder(&folder)) {
        return Ok(path);
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return named(Path::new(&path), "ORT_DYLIB_PATH");
    }
    let found = beside().chain(own("onnxruntime")).find_map(|folder| in_folder(&folder));
    found.ok_or_else(|| {
        EngineError(
            "no ONNX Runtime: set ORT_DYLIB_PATH or the device configuration's runtime_library to libonnxruntime.so, \
             put it beside fleetfoot-agent, or run `make setup`"
                .to_owned(),
        )
    })
}

/// A provider's own library: the device configuration's, else beside the runtime, else beside the agent, else the one
/// that `scripts/provider.sh` got; `None` where there is none.
#[cfg(feature = "plugins")]
pub fn find_plugin(
    configured: Option<&str>,
    stem: &str,
    runtime: &Path,
    provider: &str,
) -> Result<Option<PathBuf>, EngineError> {
    if let Some(path) = configured {
        return named(Path::new(path), "the device configuration's provider_library").map(Some);
    }
    let folders = runtime.parent().map(Path::to_path_buf).into_iter().chain(beside());
    let mut folders = folders.chain(own(&format!("onnxruntime-{provider}")));
    Ok(folders.find_map(|folder| folder.join(file_name(stem)).canonicalize().ok()))
}

/// A shared library's file name on this system.
#[cfg(feature = "plugins")]
pub fn file_name(stem: &str) -> String {
    format!("{}{stem}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

fn named(path: &Path, who: &str) -> Result<PathBuf, EngineError> {
    match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(EngineError(format!("{who} names {}, which is no file", path.display()))),
    }
}

fn agent() -> PathBuf {
    std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default()
}

fn beside() -> impl Iterator<Item = PathBuf> {
    agent().parent().map(Path::to_path_buf).into_iter()
}

/// What set-up scripts unpacked under this name.
fn own(name: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let below = format!("native/{name}/lib");
    let folders: Vec<PathBuf> = agent().ancestors().skip(1).map(|folder| folder.join(&below)).collect();
    folders.into_iter()
}

fn in_folder(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut libraries: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            ["libonnxruntime.so", "libonnxruntime.dylib", "onnxruntime.dll"].iter().any(|known| name.starts_with(known))
        })
        .collect();
    libraries.sort();
    libraries.pop()
}

/// The library's own version, such as `1.31.1`.
pub fn version(path: &Path) -> Result<String, EngineError> {
    #[repr(C)]
    struct ApiBase {
        get_api: *const (),
        get_version: unsafe extern "C" fn() -> *const c_char,
    }
    let unfit = |why: String| EngineError(format!("{} is no ONNX Runtime that can be loaded: {why}", path.display()));
    // SAFETY: loading runs the library's initialisers, as ort's own loading does; OrtGetApiBase and the layout of its
    // result are fixed by ONNX Runtime's C API since 1.0.
    unsafe {
        let library = libloading::Library::new(path).map_err(|error| unfit(error.to_string()))?;
        let base: libloading::Symbol<'_, unsafe extern "C" fn() -> *const ApiBase> =
            library.get(b"OrtGetApiBase").map_err(|error| unfit(error.to_string()))?;
        let base = base();
        if base.is_null() {
            return Err(unfit("it has no API".to_owned()));
        }
        Ok(CStr::from_ptr(((*base).get_version)()).to_string_lossy().into_owned())
    }
}

/// The execution providers that the loaded runtime was built with, as it names them.
pub fn providers() -> Result<Vec<String>, EngineError> {
    let api = ort::api();
    let mut names: *mut *mut c_char = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: the call fills both variables; it gives `count` texts, which are released by the last call alone.
    unsafe {
        let status = (api.GetAvailableProviders)(&raw mut names, &raw mut count);
        if !status.0.is_null() || names.is_null() {
            return Err(EngineError("ONNX Runtime doesn't tell its execution providers".to_owned()));
        }
        let length = usize::try_from(count).unwrap_or_default();
        let texts = std::slice::from_raw_parts(names, length).iter();
        let available = texts.map(|&text| CStr::from_ptr(text).to_string_lossy().into_owned()).collect();
        let _ = (api.ReleaseAvailableProviders)(names, count);
        Ok(available)
    }
}
