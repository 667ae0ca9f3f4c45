//! Which devices there are, without putting anything on them.

use crate::device::{DeviceConfig, TransportKind};
use crate::transport::{Adb, Facts, Remote, Ssh, asked, listed, objection};
use crate::unready::{State, Unready};

/// A phone or the like that adb sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phone {
    /// Its serial number.
    pub serial: String,
    /// Its model, where it lets that be seen.
    pub model: Option<String>,
    /// Why it can't be used; `None` if it can.
    pub unready: Option<Unready>,
}

/// The phones that adb sees.
pub fn phones() -> Result<Vec<Phone>, Unready> {
    let phone = |listed: crate::transport::Listed| {
        let unready = listed.unready();
        Phone { serial: listed.serial, model: listed.model.map(|model| model.replace('_', " ")), unready }
    };
    Ok(listed()?.into_iter().map(phone).collect())
}

/// What a device on another machine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its maker and model, else its host's or serial number's.
    pub model: String,
    /// The same without its maker.
    pub product: String,
    /// Its chip, if it tells.
    pub soc: Option<String>,
    /// Its system and version.
    pub system: Option<String>,
    /// What programs are made for there, such as `arm64-v8a`.
    pub abi: String,
    /// Number of cores.
    pub cores: Option<usize>,
    /// Cores by the highest frequency that they are made for, in kHz, the slowest first; empty where it isn't told.
    pub clusters: Vec<(u64, Vec<usize>)>,
    /// Why nothing can be measured there now by its configuration, as far as that is known before an agent is started; `None` if it seems
    /// that it can.
    pub unready: Option<Unready>,
}

impl Described {
    /// Asks a device that a configuration leads to; nothing is written there.
    pub fn of(device: &DeviceConfig) -> Result<Self, Unready> {
        match device.transport {
            TransportKind::Adb => {
                let phone = Adb::find(device.serial.as_deref())?;
                Self::asked(&phone, device, device.serial.as_deref().unwrap_or("phone"))
            }
            TransportKind::Ssh => {
                let host = device.host.as_deref().unwrap_or_default();
                Self::asked(&Ssh::find(host)?, device, host)
            }
            TransportKind::Local | TransportKind::Mock => {
                let what = "a device on this machine tells what it is by its agent";
                Err(Unready::new(State::Failed, what, "start one"))
            }
        }
    }

    fn asked(remote: &dyn Remote, device: &DeviceConfig, otherwise: &str) -> Result<Self, Unready> {
        let facts = asked(remote, device.folder.as_deref())?;
        let unready = objection(remote, device, &facts);
        Ok(Self { unready, ..Self::from_facts(&facts, otherwise) })
    }

    fn from_facts(facts: &Facts, otherwise: &str) -> Self {
        let mut clusters: Vec<(u64, Vec<usize>)> = Vec::new();
        for (core, khz) in facts.clocks() {
            match clusters.iter_mut().find(|(known, _)| *known == khz) {
                Some((_, cores)) => cores.push(core),
                None => clusters.push((khz, vec![core])),
            }
        }
        clusters.sort();
        let android = facts.get("android").map(|release| format!("Android {release}"));
        let text = |name: &str| facts.get(name).map(str::to_owned);
        Self {
            model: facts.model().unwrap_or_else(|| otherwise.to_owned()),
            product: facts.product().unwrap_or(otherwise).to_owned(),
            soc: text("soc"),
            system: android.or_else(|| text("system")),
            abi: text("abi").or_else(|| text("machine")).unwrap_or_else(|| "unknown".to_owned()),
            cores: facts.get("cores").and_then(|cores| cores.parse().ok()).filter(|cores| *cores > 0),
            clusters,
            unready: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_is_described_by_what_it_says() {
        let text = "machine=aarch64\nsdk=34\nandroid=14\nmodel=Pixel 8\nmaker=Google\nsoc=Tensor G3\nabi=arm64-v8a\ncores=9\nkhz_0=1704000\nkhz_10=2367000\nkhz_9=2367000\nkhz_1=1704000\n";
        let described = Described::from_facts(&Facts::parse(text), "X");
        assert_eq!((described.model.as_str(), described.system.as_deref()), ("Google Pixel 8", Some("Android 14")));
        assert_eq!(described.product, "Pixel 8");
        assert_eq!(described.clusters, [(1_704_000, vec![0, 1]), (2_367_000, vec![9, 10])]);
        let silent = Described::from_facts(&Facts::parse(""), "192.0.2.1");
        assert_eq!((silent.model.as_str(), silent.abi.as_str(), silent.cores), ("192.0.2.1", "unknown", None));
    }
}
