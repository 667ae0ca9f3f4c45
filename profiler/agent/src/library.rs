//! Where ONNX Runtime's library is.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};

use fleetfoot_protocol::EngineError;

/// The library to load: the device configuration's, else `ORT_DYLIB_PATH`, else beside the agent, else the project's
/// own (`native/onnxruntime/lib` above the agent's folder).
pub fn find(configured: Option<&str>) -> Result<PathBuf, EngineError> {
    let given = [
        (configured.map(PathBuf::from), "the device configuration's runtime_library"),
        (std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from), "ORT_DYLIB_PATH"),
    ];
    for (path, who) in given {
        if let Some(path) = path {
            return match path.canonicalize() {
                Ok(path) if path.is_file() => Ok(path),
                _ => Err(EngineError(format!("{who} names {}, which is no file", path.display()))),
            };
        }
    }
    let agent = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let beside = agent.parent().map(Path::to_path_buf).into_iter();
    let own = agent.ancestors().skip(1).map(|folder| folder.join("native/onnxruntime/lib"));
    let found = beside.chain(own).find_map(|folder| in_folder(&folder));
    found.ok_or_else(|| {
        EngineError(
            "no ONNX Runtime: set ORT_DYLIB_PATH or the device configuration's runtime_library to libonnxruntime.so, \
             put it beside fleetfoot-agent, or run `make setup`"
                .to_owned(),
        )
    })
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
